"""List the commit and all experiments, the best first, by validation accuracy; never by test.

    python src/leaderboard.py [--json]

Runs that differ by their seeds alone are one line, with mean and standard deviation; the same run
found twice counts once. Runs with other validation images are listed apart, because their scores
do not compare. Of equals the one of lower validation loss is better.

Reads   dvc.lock and metrics/train.json of HEAD and of each experiment that git keeps
Costs   a fraction of a second for each experiment; no TensorFlow
"""

import argparse
import hashlib
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imgpipe.core.errors import PipelineError, run_script
from imgpipe.experiments.provenance import (
    Provenance,
    Revision,
    find_revision,
    list_experiments,
    read_provenance,
    read_text,
)
from imgpipe.reporting.text_table import format_columns, format_value

SHOWN_NAMES = 3
SEEDS = ("train.seed", "augment.seed")
# These, with the raw data, decide which images are used for validation.
VALIDATION_KEYS = (
    "dataset",
    *(
        f"preprocess.{key}"
        for key in (
            "validation_frac", "test_frac", "folds", "test_fold", "max_per_class", "seed"
        )
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run and what its best epoch reached on the validation split."""

    revision: Revision
    record: Provenance
    accuracy: float
    loss: float

    def values(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Return parameters as text, which can be compared and hashed."""
        return tuple(repr(self.record.parameters.get(key)) for key in keys)

    @property
    def validation_set(self) -> tuple[str, ...]:
        """What decides which images it was validated on."""
        return (*self.values(VALIDATION_KEYS), self.record.outputs["data/raw"])

    @property
    def code(self) -> str:
        """A short name of its source files and libraries: equal for equal ones."""
        made_by = (sorted(self.record.sources.items()), sorted(self.record.libraries.items()))
        return hashlib.sha256(repr(made_by).encode()).hexdigest()[:7]

    @property
    def setting(self) -> tuple[str, ...]:
        """All that has made it but its seeds."""
        keys = sorted(key for key in self.record.parameters if key not in SEEDS)
        return (
            self.code,
            *(f"{key}={value}" for key, value in zip(keys, self.values(keys), strict=True)),
        )


@dataclass(frozen=True)
class Line:
    """Runs of one setting, with different seeds."""

    runs: list[Run]

    @property
    def accuracy(self) -> float:
        """Mean over the runs."""
        return statistics.mean(run.accuracy for run in self.runs)

    @property
    def loss(self) -> float:
        """Mean over the runs."""
        return statistics.mean(run.loss for run in self.runs)

    @property
    def accuracy_sd(self) -> float | None:
        """Standard deviation (n - 1) over the runs; None of one alone."""
        return statistics.stdev([run.accuracy for run in self.runs]) if len(self.runs) > 1 else None


def load_runs() -> tuple[list[Run], list[str]]:
    """Return the commit and the experiments, each once, and notes on those that have no scores."""
    runs: dict[tuple[str, ...], Run] = {}
    notes = []
    for revision in (find_revision("HEAD"), *list_experiments()):
        try:
            record = read_provenance(revision, to_evaluate=False)
            scores = json.loads(read_text(revision, "metrics/train.json"))
        except PipelineError as error:
            notes.append(f"left out: {error}")
            continue
        run = Run(revision, record, scores["validation_accuracy"], scores["validation_loss"])
        runs.setdefault((*run.setting, *run.values(SEEDS), *run.validation_set), run)
    return list(runs.values()), notes


def rank(runs: Sequence[Run]) -> list[list[Line]]:
    """Return, for each set of validation images, the settings tried on it, the best first."""
    boards: dict[tuple[str, ...], dict[tuple[str, ...], list[Run]]] = {}
    for run in runs:
        board = boards.setdefault(run.validation_set, {})
        board.setdefault(run.setting, []).append(run)
    return [
        sorted(map(Line, board.values()), key=lambda line: (-line.accuracy, line.loss))
        for board in boards.values()
    ]


def find_varied(board: Sequence[Line]) -> list[str]:
    """Return the parameters, beside the seeds, in which the lines of a board differ.

    Where some have a parameter and others not, as those of other architectures, the others are not
    asked.
    """
    records = [line.runs[0].record.parameters for line in board]
    keys = dict.fromkeys(key for record in records for key in record if key not in SEEDS)
    return [
        key for key in keys if len({repr(record[key]) for record in records if key in record}) > 1
    ]


def render_board(board: Sequence[Line]) -> Iterator[str]:
    """Yield a board as lines of text."""
    varied = find_varied(board)
    codes = {line.runs[0].code for line in board}
    header = ["", "validation accuracy", "loss", "runs", *varied]
    rows = [header + (["code"] if len(codes) > 1 else []) + ["names"]]
    for place, line in enumerate(board, start=1):
        first = line.runs[0]
        spread = "" if line.accuracy_sd is None else f" ± {line.accuracy_sd:.4f}"
        names = [run.revision.name for run in line.runs]
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        values = [format_value(first.record.parameters.get(key, "absent")) for key in varied]
        rows.append(
            [str(place), f"{line.accuracy:.4f}{spread}", f"{line.loss:.4f}", str(len(names))]
            + values
            + ([first.code] if len(codes) > 1 else [])
            + [", ".join(names[:SHOWN_NAMES]) + more]
        )
    yield from format_columns(rows)


def name_boards(boards: Sequence[Sequence[Line]]) -> list[str]:
    """Return the dataset of each board, and the values that tell its validation images apart."""
    firsts = [board[0].runs[0] for board in boards]
    varied = [key for key in VALIDATION_KEYS[1:] if len({run.values([key]) for run in firsts}) > 1]
    return [
        ", ".join(
            [
                str(run.record.parameters["dataset"]),
                *(f"{key} {run.record.parameters.get(key, 'absent')}" for key in varied),
            ]
        )
        for run in firsts
    ]


def render_text(boards: Sequence[Sequence[Line]], notes: Sequence[str]) -> str:
    """Return all boards as lines of text."""
    lines = []
    for name, board in zip(name_boards(boards), boards, strict=True):
        lines += [name, *render_board(board), ""]
    if len(boards) > 1:
        lines.append("Lines of different tables do not compare: the validation images differ.")
    return "\n".join([*lines, *notes]).rstrip()


def render_json(boards: Sequence[Sequence[Line]], notes: Sequence[str]) -> str:
    """Return all boards as JSON."""
    listed = [
        [
            {
                "validation_accuracy": line.accuracy,
                "validation_accuracy_sd": line.accuracy_sd,
                "validation_loss": line.loss,
                "runs": [
                    {"name": run.revision.name, "commit": run.revision.commit} for run in line.runs
                ],
                "parameters": line.runs[0].record.parameters,
            }
            for line in board
        ]
        for board in boards
    ]
    return json.dumps({"boards": listed, "notes": notes}, indent=2, ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    runs, notes = load_runs()
    render = render_json if options.json else render_text
    print(render(rank(runs), notes))


if __name__ == "__main__":
    run_script(main)
