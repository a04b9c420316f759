"""README and the other documents, against the files that they name."""

import json
import re
import subprocess

import pandas as pd
from choices import PAGE, render_page
from support import ROOT, leaves

from imgpipe.core.yaml_file import read_yaml

PARAMETERS = [key for key, _ in leaves(read_yaml(ROOT / "params.yaml"))]


def readme_code() -> list[str]:
    """Everything that README shows as code, line by line."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    without_blocks = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(
        r"`([^`\n]+)`", without_blocks
    )


def test_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_the_make_targets_that_readme_names_exist() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    targets = set(re.findall(r"^  (\S+)", shown, re.MULTILINE))
    named = {target for line in readme_code() for target in re.findall(r"\bmake ([a-z-]+)", line)}
    assert {"run", "test"} <= named
    assert named <= targets


def test_every_make_target_has_a_plain_command() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    rules = (ROOT / "Makefile").read_text()
    described = set(re.findall(r"^\| `make ([a-z-]+)", page, re.MULTILINE))
    assert described == set(re.findall(r"^([a-z-]+):.*##", rules, re.MULTILINE)) - {"help"}


def test_the_parameters_that_readme_sets_exist() -> None:
    keys = {key for line in readme_code() for key in re.findall(r"-S '?([\w.]+)=", line)}
    assert "dataset" in keys
    assert keys <= set(PARAMETERS)


def test_the_files_and_links_that_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    code = {
        path
        for line in readme_code()
        for path in re.findall(r"\b(?:src|data|metrics|tests|models|recipes)/[\w/.-]+\w", line)
    }
    made = {
        line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if "/" in line
    } | {"models", "data/evaluation", "data/local", "metrics/report.html"}
    for path in [*links, *code]:
        generated = any(path == name or path.startswith(f"{name}/") for name in made)
        assert generated or (ROOT / path).exists(), path


def test_the_accuracy_of_the_committed_run_is_the_one_in_readme() -> None:
    scores = json.loads((ROOT / "metrics" / "test.json").read_text())
    text = (ROOT / "README.md").read_text()
    row = f"| {scores['accuracy']:.4f} | 1 | {scores['images']} | `make run` |"
    assert f"| `digits` | small CNN {row}" in text
    interval = f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}"
    assert f"95 % interval of the first run is {interval}" in " ".join(text.split())


def test_readme_quotes_what_the_benchmarks_have_reached() -> None:
    results = (ROOT / "benchmarks" / "results.md").read_text()
    targets = [line for line in results.split("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(targets) > 10
    assert "\n".join(targets) in (ROOT / "README.md").read_text()
    for line in targets[2:]:
        goal, reached, missed = (cell.strip() for cell in line.split("|")[2:5])
        sign, number = goal.split()
        is_met = float(reached) >= float(number) if sign == "≥" else float(reached) <= float(number)
        assert (missed == "") == is_met, line


def test_the_scores_of_the_studies_are_those_in_readme() -> None:
    text = (ROOT / "README.md").read_text()
    folds = json.loads((ROOT / "studies" / "cross_validation" / "metrics.json").read_text())
    runs = pd.read_csv(ROOT / "studies" / "cross_validation" / "folds.csv")
    accuracy = f"{folds['folds_accuracy']:.4f}, sd {folds['folds_accuracy_sd']:.4f}"
    assert f"| `digits`, five folds | small CNN | {accuracy} | {len(runs)} |" in text


def test_every_leaf_has_a_comment() -> None:
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if re.match(r" *[a-z_0-9]+: \S", line):
            assert re.search(r"  # \S", line), line


def test_the_page_of_choices_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), "out of date: make docs"
