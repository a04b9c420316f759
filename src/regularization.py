"""Last stage of studies/regularization: training and validation error, side by side.

Reads   `plot` in params.yaml; studies/regularization/params.yaml; the history of each run
Writes  errors.csv, for each variant mean and standard deviation over the seeds, at the epoch of
        lowest validation loss; errors.png, the errors by epoch
Costs   a few seconds; no TensorFlow
"""

from pathlib import Path
from typing import Any

import pandas as pd

from imgpipe import charts
from imgpipe.errors import PipelineError
from imgpipe.files import write_csv
from imgpipe.params import Params, check, read_yaml
from imgpipe.stage import run_stage
from imgpipe.studies import Regularization

STUDY = Path("studies/regularization/params.yaml")


def main(
    params: Params,
    *,
    trained: Path = Path("studies/regularization/work/trained"),
    results: Path = Path("studies/regularization"),
) -> None:
    study = load_study()
    errors = {
        variant.name: [
            read_errors(trained / f"{variant.name}-{seed}" / "history.csv") for seed in study.seeds
        ]
        for variant in study.variants
    }
    rows = []
    for name, runs in errors.items():
        best = pd.DataFrame([run.iloc[int(run["validation_loss"].argmin())] for run in runs])
        mean, sd = best.mean(), best.std(ddof=1)
        rows.append(
            [name, len(runs)]
            + [of[key] for key in ("training_error", "validation_error") for of in (mean, sd)]
        )
    header = ["variant", "runs", "training_error", "training_error_sd"]
    header += ["validation_error", "validation_error_sd"]
    write_csv(results / "errors.csv", header, rows)
    table = pd.DataFrame(rows, columns=header)
    figure = charts.draw_errors(errors, table.set_index("variant"))
    charts.save_figure(figure, results / "errors.png", params.plot.dpi)
    listing = "; ".join(
        f"{row.variant} {row.validation_error:.4f}, sd {row.validation_error_sd:.4f}"
        for row in table.itertuples()
    )
    print(f"regularization: validation error over {len(study.seeds)} seeds: {listing}")


def read_errors(path: Path) -> pd.DataFrame:
    """Read a history: columns epoch, training_error, validation_error, validation_loss."""
    try:
        history = pd.read_csv(path)
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None
    return pd.DataFrame(
        {
            "epoch": history["epoch"],
            "training_error": 1 - history["accuracy"],
            "validation_error": 1 - history["validation_accuracy"],
            "validation_loss": history["validation_loss"],
        }
    )


def load_study() -> Regularization:
    return check(Regularization, read_yaml(STUDY), STUDY.as_posix())


def uses(params: Params) -> dict[str, Any]:
    return {"plot.dpi": params.plot.dpi, "study": load_study()}


if __name__ == "__main__":
    run_stage(main, uses, __doc__)
