"""The stages that each change re-runs: docs/reruns.md equals a measurement with DVC."""

import re

import pytest
from reruns import TABLE, measure_table
from support import ROOT, STAGES, leaves, make_copy

from imgpipe.core.yaml_file import read_yaml

pytestmark = pytest.mark.e2e


def expected_stages(leaf: str) -> set[str]:
    """Return the stages whose own inputs a parameter changes; later stages run if outputs change.

    `plot` is one of them, because the model card lists the parameters of the network.
    """
    section = leaf.split(".")[0]
    match section:
        case "dataset":
            return {"fetch", "preprocess", "plot"}
        case "allow_unpinned":
            return {"fetch", "plot"}
        case "arithmetic":
            return {"train", "evaluate", "plot"}
        case "arithmetics":  # of the arithmetic that is not chosen
            return set()
        case "method" | "network" | "training":
            return {"train", "plot"}
        case "transfer":
            return set()
        case "networks":
            return {"train", "plot"} if leaf.startswith("networks.cnn.") else set()
        case _:
            return {section, "plot"}


@pytest.fixture(scope="module")
def reruns(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of docs, measured again."""
    return measure_table(make_copy(tmp_path_factory.mktemp("reruns")))


def test_the_table_of_reruns_equals_the_behavior_of_dvc(reruns: str) -> None:
    assert TABLE.read_text() == reruns, "out of date: make reruns"


def test_each_item_changes_exactly_its_stages(reruns: str) -> None:
    rows = {
        item: {stage for stage, mark in zip(STAGES, marks.split("|"), strict=True) if mark.strip()}
        for item, marks in re.findall(r"^\| `(.*?)` \|(.*)\|$", reruns, re.MULTILINE)
    }
    parameters = [key for key, _ in leaves(read_yaml(ROOT / "params.yaml"))]
    assert {key: rows[key] for key in parameters} == {
        key: expected_stages(key) for key in parameters
    }
    fields: dict[str, set[str]] = {
        "title": {"plot"},
        "license": {"plot"},
        "citation": {"plot"},
        "urls": {"plot"},
        "files": {"fetch", "plot"},
        "format": {"preprocess", "plot"},
    }
    assert {field: rows[field] for field in fields} == fields
