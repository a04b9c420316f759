"""Rank runs by validation accuracy: a table for each set of validation images."""

import hashlib
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from imgpipe.console.messages import join_some
from imgpipe.console.tables import format_columns
from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import RAW
from imgpipe.experiments.provenance import (
    STAGES_TO_TRAIN,
    find_revision,
    list_experiments,
    read_provenance,
)
from imgpipe.experiments.run import Run
from imgpipe.settings.params import format_value

_SHOWN_NAMES = 3
_SEEDS = ("training.seed", "transfer.seed", "augment.seed")
# With the raw data, these parameters decide which images are used for validation.
_VALIDATION_KEYS = (
    "dataset",
    "preprocess.validation_frac",
    "preprocess.test_frac",
    "preprocess.test_fold",
    "preprocess.groups",
    "preprocess.max_per_class",
    "preprocess.seed",
)


@dataclass(frozen=True)
class Entry:
    """One line of a table: runs that differ only by their seeds."""

    runs: list[Run]

    @property
    def accuracy(self) -> float:
        """Mean validation accuracy."""
        return statistics.mean(run.validation.accuracy for run in self.runs)

    @property
    def accuracy_sd(self) -> float | None:
        """Standard deviation (n - 1) of the validation accuracy; None for a single run."""
        if len(self.runs) == 1:
            return None
        return statistics.stdev(run.validation.accuracy for run in self.runs)

    @property
    def loss(self) -> float:
        """Mean validation loss, without class weights."""
        return statistics.mean(run.validation.loss for run in self.runs)


def load_runs() -> tuple[list[Run], list[str]]:
    """Return HEAD and the experiments, each run once, and notes on runs without metrics."""
    runs: dict[tuple[str, ...], Run] = {}
    notes = []
    for revision in (find_revision("HEAD"), *list_experiments()):
        try:
            run = Run(revision, read_provenance(revision, STAGES_TO_TRAIN))
            _ = run.validation  # fails here if the metrics are missing
        except PipelineError as error:
            notes.append(f"skipped: {error}")
            continue
        runs.setdefault((*_setting(run), *_values(run, _SEEDS), *_validation_images(run)), run)
    return list(runs.values()), notes


def rank_runs(runs: Sequence[Run]) -> list[list[Entry]]:
    """Return a table of entries for each set of validation images, the best entry first."""
    tables: dict[tuple[str, ...], dict[tuple[str, ...], list[Run]]] = {}
    for run in runs:
        table = tables.setdefault(_validation_images(run), {})
        table.setdefault(_setting(run), []).append(run)
    return [
        sorted(map(Entry, table.values()), key=lambda entry: (-entry.accuracy, entry.loss))
        for table in tables.values()
    ]


def render_text(tables: Sequence[Sequence[Entry]], notes: Sequence[str]) -> str:
    """Return all tables as lines of text."""
    lines = []
    for name, table in zip(_name_tables(tables), tables, strict=True):
        lines += [name, *format_columns(_table_rows(table)), ""]
    if len(tables) > 1:
        lines.append("Do not compare lines of different tables: their validation images differ.")
    return "\n".join([*lines, *notes]).rstrip()


def render_json(tables: Sequence[Sequence[Entry]], notes: Sequence[str]) -> str:
    """Return all tables as JSON."""
    listed = [
        [
            {
                "validation_accuracy": entry.accuracy,
                "validation_accuracy_sd": entry.accuracy_sd,
                "validation_loss_unweighted": entry.loss,
                "runs": [{"name": run.name, "commit": run.revision.commit} for run in entry.runs],
                "parameters": entry.runs[0].provenance.parameters,
            }
            for entry in table
        ]
        for table in tables
    ]
    return json.dumps({"boards": listed, "notes": notes}, indent=2, ensure_ascii=False)


def _values(run: Run, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the values of some parameters as text, which can be hashed."""
    return tuple(repr(run.provenance.parameters.get(key)) for key in keys)


def _validation_images(run: Run) -> tuple[str, ...]:
    """Return the values that decide the validation images of a run."""
    return (*_values(run, _VALIDATION_KEYS), run.provenance.outputs[RAW.as_posix()])


def _code(run: Run) -> str:
    """Return a short hash of the source files and libraries of a run."""
    code = sorted(run.provenance.sources.items()), sorted(run.provenance.libraries.items())
    return hashlib.sha256(repr(code).encode()).hexdigest()[:7]


def _setting(run: Run) -> tuple[str, ...]:
    """Return the code and all parameters of a run, except its seeds."""
    parameters = run.provenance.parameters
    return (
        _code(run),
        *(f"{key}={parameters[key]!r}" for key in sorted(parameters) if key not in _SEEDS),
    )


def _find_varied(table: Sequence[Entry]) -> list[str]:
    """Return the parameters, without the seeds, that have several values in a table.

    Entries without the parameter do not count, such as runs of another network.
    """
    settings = [entry.runs[0].provenance.parameters for entry in table]
    keys = dict.fromkeys(key for setting in settings for key in setting if key not in _SEEDS)
    return [
        key
        for key in keys
        if len({repr(setting[key]) for setting in settings if key in setting}) > 1
    ]


def _table_rows(table: Sequence[Entry]) -> list[list[str]]:
    """Return a table as rows of cells, the header first."""
    varied = _find_varied(table)
    codes = {_code(entry.runs[0]) for entry in table}
    code_header = ["code"] if len(codes) > 1 else []
    rows = [["", "validation accuracy", "loss", "runs", *varied, *code_header, "names"]]
    for place, entry in enumerate(table, start=1):
        first = entry.runs[0]
        sd = "" if entry.accuracy_sd is None else f" ± {entry.accuracy_sd:.4f}"
        names = [run.name for run in entry.runs]
        rows.append(
            [
                str(place),
                f"{entry.accuracy:.4f}{sd}",
                f"{entry.loss:.4f}",
                str(len(names)),
                *(format_value(first.provenance.parameters.get(key, "absent")) for key in varied),
                *([_code(first)] if code_header else []),
                join_some(names, _SHOWN_NAMES),
            ]
        )
    return rows


def _name_tables(tables: Sequence[Sequence[Entry]]) -> list[str]:
    """Return the dataset of each table, and the values that decide its validation images."""
    firsts = [table[0].runs[0] for table in tables]
    varied = [
        key for key in _VALIDATION_KEYS[1:] if len({_values(run, [key]) for run in firsts}) > 1
    ]
    return [
        ", ".join(
            [
                str(run.provenance.parameters["dataset"]),
                *(f"{key} {run.provenance.parameters.get(key, 'absent')}" for key in varied),
            ]
        )
        for run in firsts
    ]
