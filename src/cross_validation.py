"""Last stage of studies/cross_validation: mean and standard deviation over the folds.

Reads   `plot` in params.yaml; `run_folds` in studies/cross_validation/params.yaml; the scores of
        each fold
Writes  metrics.json, mean and standard deviation of every score; folds.csv, a row for each fold;
        folds.png
Costs   a few seconds; no TensorFlow
"""

from pathlib import Path
from typing import Any

import pandas as pd

from imgpipe import charts
from imgpipe.files import read_json, write_csv, write_json
from imgpipe.params import Params, check, read_yaml
from imgpipe.stage import run_stage
from imgpipe.studies import CrossValidation, summarize_scores

STUDY = Path("studies/cross_validation/params.yaml")


def main(
    params: Params,
    *,
    scores: Path = Path("studies/cross_validation/work/scores"),
    results: Path = Path("studies/cross_validation"),
) -> None:
    folds = load_study().run_folds
    runs = [read_json(scores / str(fold) / "test.json") for fold in folds]
    images = sum(run["images"] for run in runs)
    summary = summarize_scores(runs)
    mean, sd = summary["accuracy"]["mean"], summary["accuracy"]["sd"]
    write_json(
        results / "metrics.json",
        {
            "folds_accuracy": mean,
            "folds_accuracy_sd": sd,
            # As a list: `dvc metrics` would make a column of each value of a mapping.
            "scores": [{"score": score, **both} for score, both in summary.items()],
        },
    )
    table = pd.DataFrame(runs, index=pd.Index(folds, name="fold"))
    write_csv(results / "folds.csv", ["fold", *table.columns], table.itertuples(name=None))
    charts.save_figure(charts.draw_folds(table, summary), results / "folds.png", params.plot.dpi)
    print(
        f"cross_validation: accuracy {mean:.4f}, sd {sd:.4f}, over {len(runs)} folds with"
        f" {images} test images"
    )


def load_study() -> CrossValidation:
    return check(CrossValidation, read_yaml(STUDY), STUDY.as_posix())


def uses(params: Params) -> dict[str, Any]:
    return {"plot.dpi": params.plot.dpi, "run_folds": load_study().run_folds}


if __name__ == "__main__":
    run_stage(main, uses, __doc__)
