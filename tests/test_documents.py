"""README and the other documents, against the files that they name."""

import json
import re

import pandas as pd
import pytest
from choices import PAGE, render_page
from support import ROOT, git


def test_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md"])
def test_prose_has_lines_of_at_most_100_characters(page: str) -> None:
    for path in ROOT.glob(page):
        prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        lines = [line for line in prose.splitlines() if not line.startswith("|")]
        assert [line for line in lines if len(line) > 100] == [], path.name


def test_every_make_target_has_a_plain_command() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    rules = (ROOT / "Makefile").read_text()
    described = set(re.findall(r"^\| `make ([a-z-]+)", page, re.MULTILINE))
    assert described == set(re.findall(r"^([a-z-]+):.*##", rules, re.MULTILINE)) - {"help"}


def test_the_accuracy_of_the_committed_run_is_the_one_in_readme() -> None:
    # As git has it: on another type of processor, `make run` gives other results.
    scores = json.loads(git(ROOT, "show", ":metrics/test.json"))
    text = (ROOT / "README.md").read_text()
    row = f"| {scores['accuracy']:.4f} | 1 | {scores['images']} | `make run` |"
    assert f"| `digits` | small CNN {row}" in text
    interval = f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}"
    assert f"95 % interval of the first run is {interval}" in " ".join(text.split())


def test_a_missed_target_is_marked() -> None:
    page = (ROOT / "benchmarks" / "results.md").read_text()
    targets = re.findall(r"^\| (.*) \| ([≥≤]) ([\d.]+) \| ([\d.]+) \| (missed)? *\|$", page, re.M)
    assert targets
    for what, sign, goal, reached, missed in targets:
        is_met = float(reached) >= float(goal) if sign == "≥" else float(reached) <= float(goal)
        assert (missed == "") == is_met, what


def describe_studies() -> dict[str, list[str]]:
    """The results of each study as documents write them, from its tables."""
    folder = ROOT / "studies"
    folds = json.loads((folder / "cross_validation" / "metrics.json").read_text())
    runs = pd.read_csv(folder / "cross_validation" / "folds.csv")
    bagging = json.loads((folder / "bagging" / "metrics.json").read_text())
    errors = pd.read_csv(folder / "regularization" / "errors.csv").set_index("variant")
    validation = {
        name: f"{row['validation_error']:.4f}, sd {row['validation_error_sd']:.4f}"
        for name, row in errors.iterrows()
    }
    return {
        "cross_validation": [
            f"accuracy {folds['folds_accuracy']:.4f}, sd {folds['folds_accuracy_sd']:.4f},"
            f" n = {len(runs)} folds"
        ],
        "bagging": [
            f"accuracy of the ensemble {bagging['ensemble_accuracy']:.4f};",
            f"members {bagging['members_accuracy']:.4f}, sd {bagging['members_accuracy_sd']:.4f},",
        ],
        "regularization": [
            f"validation error {validation['none']}, without",
            f"{validation['all']}, with all",
        ],
    }


@pytest.mark.parametrize("study", ["cross_validation", "bagging", "regularization"])
def test_documents_quote_the_results_of_a_study(study: str) -> None:
    header = (ROOT / "studies" / f"{study}.yaml").read_text().replace("\n#", "")
    page = (ROOT / "studies" / "README.md").read_text()
    for text in describe_studies()[study]:
        assert text in " ".join(header.split())
        assert text in page


def test_readme_quotes_the_cross_validation() -> None:
    (result,) = describe_studies()["cross_validation"]
    accuracy = result.removeprefix("accuracy ").partition(", n = ")[0]
    row = f"| `digits`, five folds | small CNN | {accuracy} | 5 |"
    assert row in (ROOT / "README.md").read_text()


def test_every_leaf_has_a_comment() -> None:
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if re.match(r" *[a-z_0-9]+: \S", line):
            assert re.search(r"  # \S", line), line


def test_the_page_of_choices_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "out of date: make docs"
