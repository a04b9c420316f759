"""The comparison of two runs as text, JSON and a page, and the command that prints it."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import attempt, commit_run, git, run, run_parameters, set_params

from imgpipe.core.errors import PipelineError
from imgpipe.experiments.comparison import RunComparison, compare_runs
from imgpipe.experiments.comparison_report import (
    Gallery,
    draw_galleries,
    render_json,
    render_text,
    write_html,
)
from imgpipe.experiments.run import Run, load_run


@pytest.fixture
def better(repository: Path) -> RunComparison:
    """The comparison of a better run, which has another learning rate, with the first run."""
    commit_run(repository, parameters=run_parameters(training__learning_rate=0.1), skill=4.0)
    return compare_runs(load_run("HEAD~1"), load_run("HEAD"))


def test_the_text_ends_with_the_verdict(better: RunComparison) -> None:
    lines = render_text(better).splitlines()
    assert lines[0].split() == ["score", "HEAD~1", "HEAD", "change", "95", "%", "interval"]
    assert any(line.startswith("accuracy ") and line.endswith("better") for line in lines)
    assert (
        "A single score is marked better or worse only if its difference is significant after"
        " correction for the number of scores."
    ) in lines
    assert "training.learning_rate  0.002   0.1" in lines
    won, lost = len(better.comparison.won), len(better.comparison.lost)
    assert any(
        line.startswith(
            f"Of 200 test images, {won} are right only in HEAD, {lost} only in HEAD~1 (McN"
        )
        for line in lines
    )
    identity = better.predictions[0].identities[better.comparison.won[0]]
    (right,) = (line for line in lines if line.startswith("Right only in HEAD: "))
    assert right.startswith(f"Right only in HEAD: {identity}, ")
    assert right.endswith(f" and {won - 5} more.")
    change = better.comparison.differences[0].change
    assert lines[-1].startswith(
        f"HEAD against HEAD~1, by accuracy: better. Accuracy changes by {change:+.4f} (+0."
    )


def test_the_text_names_data_and_code_that_differ(repository: Path) -> None:
    commit_run(repository, raw="other", sources={"src/imgpipe/core/files.py": "edited\n"})
    first, second = load_run("HEAD~1"), load_run("HEAD")
    first.provenance.outputs["data/raw"] = "other"  # the images need not be compared
    text = render_text(compare_runs(first, second))
    assert "Data that differ: data/records, data/augmented." in text.splitlines()
    assert "Code that differs: src/imgpipe/core/files.py." in text.splitlines()


def test_json_holds_the_same_comparison(better: RunComparison) -> None:
    value = json.loads(render_json(better))
    assert value["verdict"] == "better"
    assert value["second"] == {
        "name": "HEAD", "commit": better.second.revision.commit, "test_images": 200
    }  # fmt: skip
    assert value["images"] == 200
    assert value["scores"]["accuracy"]["change"] > 0
    assert value["scores"]["accuracy"]["verdict"] == "better"
    assert value["mcnemar_p_value"] < 0.05
    assert value["made_by"] == {
        "parameters": {"training.learning_rate": [0.002, 0.1]},
        "libraries": {},
        "sources": [],
        "data": [],
    }
    assert len(value["won"]) > len(value["lost"])


def test_text_json_and_page_report_the_number_of_shared_test_images(
    repository: Path, tmp_path: Path
) -> None:
    commit_run(repository, images=150)
    compared = compare_runs(load_run("HEAD~1"), load_run("HEAD"))
    (note,) = compared.notes
    assert "150 of 200 in HEAD~1 and 150 of 150 in HEAD" in note
    text = render_text(compared)
    assert text.startswith(f"note: {note}\n")
    assert "\nOf 150 test images, " in text
    value = json.loads(render_json(compared))
    assert (value["first"]["test_images"], value["second"]["test_images"]) == (200, 150)
    assert value["images"] == 150
    write_html(compared, tmp_path / "page.html")
    assert note in (tmp_path / "page.html").read_text()


def test_the_page_has_the_verdict_and_explains_missing_pictures(
    better: RunComparison, tmp_path: Path
) -> None:
    write_html(better, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "HEAD against HEAD~1, by accuracy: better." in page
    assert "training.learning_rate" in page
    assert "No pictures: HEAD: data/records/info.json is neither in DVC" in page


def test_the_page_shows_the_images_that_only_one_run_gets_right(
    better: RunComparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identities = better.predictions[0].identities
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
    monkeypatch.setattr(
        Run, "read_test_images", lambda _: iter(zip(identities, images, strict=True))
    )
    won, lost = draw_galleries(better)
    assert isinstance(won, Gallery)
    assert won.png.startswith(b"\x89PNG")
    count = len(better.comparison.won)
    assert won.description == (
        f"{count} images that only HEAD gets right. The 24 of highest confidence are shown. Below"
        " the true class is the class that HEAD~1 predicts."
    )
    assert lost == "There are no images that only HEAD~1 gets right."
    write_html(better, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("data:image/png;base64,") == 1


def test_runs_with_equal_predictions_have_no_pictures(repository: Path) -> None:
    compared = compare_runs(load_run("HEAD"), load_run("workspace"))
    assert list(draw_galleries(compared)) == [
        "There are no images that only workspace gets right.",
        "There are no images that only HEAD gets right.",
    ]


def test_the_command_compares_head_and_workspace(repository: Path) -> None:
    text = run(repository, "compare", PYTHONWARNINGS="error")
    assert "Parameters, data, code and libraries are the same." in text
    assert "workspace against HEAD, by accuracy: no evidence either way." in text
    set_params(repository, run_parameters(training__learning_rate=0.1))
    text = run(repository, "compare", PYTHONWARNINGS="error")
    assert text.startswith(
        "note: workspace: parameters edited since the run: training.learning_rate: 0.1\n"
    )


def test_the_command_compares_two_commits_as_json_and_page(repository: Path) -> None:
    commit_run(repository, skill=4.0)
    options = ("HEAD", "HEAD~1", "--json", "--html", "page.html")
    value = json.loads(run(repository, "compare", *options, PYTHONWARNINGS="error"))
    assert value["verdict"] == "worse"
    assert value["first"]["commit"] == git(repository, "rev-parse", "HEAD").strip()
    assert "HEAD~1 against HEAD" in (repository / "page.html").read_text()


def test_the_command_refuses_different_test_images_in_one_line(repository: Path) -> None:
    commit_run(repository, images=99)
    with pytest.raises(PipelineError) as raised:
        compare_runs(load_run("HEAD~1"), load_run("HEAD"))
    result = attempt(repository, "compare", "HEAD~1", "HEAD")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == f"error: {raised.value}\n"
