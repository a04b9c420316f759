"""Last stage of studies/bagging: average the members' probabilities, and score the ensemble.

Reads   `evaluate` in params.yaml; `members` in studies/bagging/params.yaml; the scores and
        predictions of each member
Writes  metrics.json, the ensemble's accuracy, and mean and standard deviation of its members';
        members.csv, all scores of each member and of the ensemble; members.png
Costs   a few seconds; no TensorFlow

Source: Breiman (1996), Bagging predictors, doi:10.1007/BF00058655.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imgpipe import charts
from imgpipe.errors import PipelineError
from imgpipe.files import read_json, write_csv, write_json
from imgpipe.params import Params, check, read_yaml
from imgpipe.predictions import read_predictions
from imgpipe.scores import score_predictions
from imgpipe.stage import run_stage
from imgpipe.studies import Bagging, summarize_scores

STUDY = Path("studies/bagging/params.yaml")


def main(
    params: Params,
    *,
    scores: Path = Path("studies/bagging/work/scores"),
    results: Path = Path("studies/bagging"),
) -> None:
    members = load_study().members
    folders = [scores / str(member) for member in members]
    runs = [read_json(folder / "test.json") for folder in folders]
    predictions = [read_predictions(folder / "predictions.csv") for folder in folders]
    first = predictions[0]
    if any(other.identities != first.identities for other in predictions):
        raise PipelineError(f"{scores.as_posix()}: the members were scored on different images")

    probabilities = np.mean([each.probabilities for each in predictions], axis=0)
    ensemble = score_predictions(
        first.labels,
        probabilities,
        top_k=params.evaluate.top_k,
        bins=params.evaluate.calibration_bins,
    )
    summary = summarize_scores(runs)
    mean, sd = summary["accuracy"]["mean"], summary["accuracy"]["sd"]
    # What is most looked at: `dvc metrics` makes a column of each value.
    write_json(
        results / "metrics.json",
        {
            "ensemble_accuracy": ensemble["accuracy"],
            "members_accuracy": mean,
            "members_accuracy_sd": sd,
        },
    )
    table = pd.DataFrame(
        [*runs, ensemble], index=pd.Index([*map(str, members), "ensemble"], name="member")
    )
    write_csv(results / "members.csv", ["member", *table.columns], table.itertuples(name=None))
    charts.save_figure(charts.draw_members(table), results / "members.png", params.plot.dpi)
    print(
        f"bagging: accuracy of the ensemble {ensemble['accuracy']:.4f}; of its {len(runs)} members"
        f" {mean:.4f}, sd {sd:.4f}"
    )


def load_study() -> Bagging:
    return check(Bagging, read_yaml(STUDY), STUDY.as_posix())


def uses(params: Params) -> dict[str, Any]:
    return {
        "evaluate": params.evaluate,
        "plot.dpi": params.plot.dpi,
        "members": load_study().members,
    }


if __name__ == "__main__":
    run_stage(main, uses, __doc__)
