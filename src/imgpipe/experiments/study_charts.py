"""Charts of several runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from imgpipe.evaluation.metrics import find_metric
from imgpipe.reporting.charts.style import (
    GUIDE_COLOR,
    SCORE_COLORS,
    TRAIN_COLOR,
    VALIDATION_COLOR,
    new_figure,
    styled,
)


@styled
def draw_members(table: pd.DataFrame) -> Figure:
    """Draw accuracy and loss of an ensemble below the scores of its members.

    Args:
        table: a row for each member and a last one for the ensemble; columns accuracy,
            accuracy_low, accuracy_high, loss.
    """
    *members, ensemble = table.index
    places = np.arange(len(table))[::-1]
    colors = [SCORE_COLORS[1]] * len(members) + [VALIDATION_COLOR]
    figure = new_figure(10, 1.6 + 0.3 * len(table), "Members and their average, test split")
    left, right = figure.subplots(1, 2, sharey=True)
    left.errorbar(
        table["accuracy"],
        places,
        xerr=[
            table["accuracy"] - table["accuracy_low"],
            table["accuracy_high"] - table["accuracy"],
        ],
        fmt="none", ecolor=GUIDE_COLOR, elinewidth=1, capsize=3,
    )  # fmt: skip
    for axes, column in ((left, "accuracy"), (right, "loss")):
        axes.scatter(table[column], places, c=colors, zorder=3)
        axes.axvline(
            table[column].iloc[:-1].mean(), color=SCORE_COLORS[1], linestyle=":",
            label="mean of the members",
        )  # fmt: skip
        axes.grid(visible=True, axis="x")
    left.set_yticks(places, [f"member {name}" for name in members] + [str(ensemble)])
    left.set(xlabel="accuracy, with its 95 % interval")
    right.set(xlabel="loss (cross-entropy)")
    right.legend(loc="best")
    return figure


@styled
def draw_folds(table: pd.DataFrame, summary: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw each fold's scores as points, with mean and standard deviation over the folds.

    Args:
        table: a row for each fold, a column for each score.
        summary: mean and sd of each score to draw.
    """
    high_is_good = [name for name in summary if find_metric(name).higher_is_better]
    low_is_good = [name for name in summary if name not in high_is_good]
    figure = new_figure(
        2.5 + 1.25 * len(summary), 4.6, f"Scores of {len(table)} folds, mean and standard deviation"
    )
    left, right = figure.subplots(1, 2, width_ratios=[len(high_is_good), len(low_is_good)])
    spread = np.linspace(-0.18, 0.18, len(table))
    for axes, names in ((left, high_is_good), (right, low_is_good)):
        for place, name in enumerate(names):
            axes.scatter(place + spread, table[name], s=18, color=SCORE_COLORS[1])
            axes.errorbar(
                place + 0.32, summary[name]["mean"], yerr=summary[name]["sd"], fmt="D",
                color=SCORE_COLORS[2], markersize=5, capsize=4,
            )  # fmt: skip
        labels = [
            f"{name.replace('_', ' ')}\n{summary[name]['mean']:.4f}\nsd {summary[name]['sd']:.4f}"
            for name in names
        ]
        axes.set_xticks(np.arange(len(names)) + 0.1, labels, fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.3)
        axes.grid(visible=True, axis="y")
    left.set_title("more is better")
    right.set_title("less is better")
    right.set_ylim(bottom=0)
    return figure


@styled
def draw_errors(errors: Mapping[str, Sequence[pd.DataFrame]], table: pd.DataFrame) -> Figure:
    """Draw training and validation error by epoch, a panel for each variant.

    Args:
        errors: for each variant its runs, one a seed; columns epoch, training_error,
            validation_error.
        table: a row for each variant; columns validation_error and validation_error_sd, at the
            epochs of lowest validation loss.
    """
    figure = new_figure(2.9 * len(errors) + 0.6, 4.2, "What regularization does")
    panels = figure.subplots(1, len(errors), sharey=True, squeeze=False)[0]
    for axes, (variant, runs) in zip(panels, errors.items(), strict=True):
        for column, color, label in (
            ("training_error", TRAIN_COLOR, "training"),
            ("validation_error", VALIDATION_COLOR, "validation"),
        ):
            values = pd.concat([run.set_index("epoch")[column] for run in runs], axis=1)
            axes.plot(values, color=color, alpha=0.25, linewidth=0.8)
            axes.plot(values.mean(axis=1), color=color, label=label)
        best, sd = table.loc[variant, ["validation_error", "validation_error_sd"]]
        axes.set(title=f"{variant}\nvalidation error {best:.1%}, sd {sd:.1%}", xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    # Logarithmic, because small errors differ; linear below 1 %, because an error is often 0.
    panels[0].set_yscale("symlog", linthresh=0.01)
    panels[0].set_yticks([0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1], minor=False)
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    panels[0].set(ylabel="error (1 - accuracy)", ylim=(0, 1))
    panels[0].legend(loc="upper right")
    figure.supxlabel(
        f"Mean over {len(runs)} seeds, each seed thin. The training error is measured while"
        " training: dropout and augmentation raise it. Titles: at the epoch of lowest validation"
        " loss.",
        fontsize=9,
    )
    return figure
