from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import texts_in

from imgpipe.experiments.study_charts import draw_errors, draw_folds, draw_members


def points_of(collection: Any) -> np.ndarray:
    return np.asarray(collection.get_offsets())


def test_members_stand_above_their_ensemble() -> None:
    columns = ["accuracy", "accuracy_low", "accuracy_high", "loss"]
    rows = [[value, value - 0.1, value + 0.05, 1 - value] for value in (0.8, 0.7, 0.9)]
    table = pd.DataFrame(rows, ["4", "9", "ensemble"], columns)
    figure = draw_members(table)
    assert {"member 4", "member 9", "ensemble"} <= set(texts_in(figure))
    for axes, column in zip(figure.axes, ("accuracy", "loss"), strict=True):
        points = max((points_of(drawn) for drawn in axes.collections), key=len)
        assert points[:, 0] == pytest.approx(table[column].to_numpy())
        assert points[:, 1].tolist() == [2, 1, 0]  # the ensemble at the bottom
        mean = np.asarray(axes.lines[-1].get_xdata())[0]
        assert mean == pytest.approx(table[column][:2].mean())


def test_folds_show_every_score_with_its_mean_beside_metrics_of_its_direction() -> None:
    names = ["top_3_accuracy", "calibration_error", "macro_f1", "loss"]
    table = pd.DataFrame({**{name: [0.2, 0.3] for name in names}, "images": 5}, [1, 2])
    summary = {name: {"mean": 0.25, "sd": 0.07} for name in names}
    left, right = draw_folds(table, summary).axes
    for axes, title, expected in (
        (left, "more is better", ["top 3 accuracy", "macro f1"]),
        (right, "less is better", ["calibration error", "loss"]),
    ):
        assert axes.get_title() == title
        assert [text.get_text() for text in axes.get_xticklabels()] == [
            f"{name}\n0.2500\nsd 0.0700" for name in expected
        ]
        assert points_of(axes.collections[0])[:, 1].tolist() == [0.2, 0.3]


def test_errors_have_a_panel_for_each_variant() -> None:
    def run(error: float) -> pd.DataFrame:
        columns = ["epoch", "training_error", "validation_error"]
        return pd.DataFrame([[1, 0.5, 0.5], [2, 0.2, error], [3, 0.1, 0.4]], columns=columns)

    errors = {"validation_error": [0.32, 0.1], "validation_error_sd": [0.02828, 0.0]}
    runs = {"none": [run(0.3), run(0.34)], "all": [run(0.1), run(0.1)]}
    figure = draw_errors(runs, pd.DataFrame(errors, list(runs)))
    assert [axes.get_title().split("\n") for axes in figure.axes] == [
        ["none", "validation error 32.0%, sd 2.8%"],
        ["all", "validation error 10.0%, sd 0.0%"],
    ]
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["validation"] == pytest.approx([0.5, 0.32, 0.4])
    assert lines["training"] == pytest.approx([0.5, 0.2, 0.1])
