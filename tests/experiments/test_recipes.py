"""Recipes: values from overlays, params.yaml after a recipe, headers and generated files."""

import shutil
from pathlib import Path

import pytest
from support import CATALOG, ROOT, build_network, find_error, set_leaf

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import read_json
from imgpipe.core.yaml_file import flatten, read_yaml
from imgpipe.experiments.recipes import (
    DEFAULTS,
    EFFECTIVE_FILE,
    apply_change,
    describe_change,
    list_recipes,
    load_recipe,
    plan_change,
    read_header,
    write_generated,
)
from imgpipe.settings.params import load_params

FOLDER = ROOT / "recipes"
RECIPES = list_recipes(FOLDER)
CLASSES = {"cats_and_dogs_small": 2, "fashion_mnist": 10, "flowers": 5, "mnist": 10}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a copy of the recipes, and params.yaml with the defaults."""
    shutil.copytree(FOLDER, tmp_path / "recipes")
    shutil.copy(FOLDER / "defaults.yaml", tmp_path / "params.yaml")
    return tmp_path


def apply(project: Path, name: str) -> list[str]:
    """Apply a recipe; return the lines that report the change."""
    change = plan_change(name, project / "recipes", project / "params.yaml")
    apply_change(change, project / "params.yaml")
    return list(describe_change(change))


def add_recipe(project: Path, text: str) -> None:
    (project / "recipes" / "mine.yaml").write_text(text)


def split_comments(text: str) -> list[tuple[str, int, str]]:
    """Return key, column of the comment and comment of every line that has both."""
    return [
        (line.partition(":")[0], line.index("#"), line.partition("#")[2])
        for line in text.splitlines()
        if "#" in line and not line.startswith("#")
    ]


def test_the_defaults_are_the_shipped_params_file() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (FOLDER / "defaults.yaml").read_bytes(), (
        "params.yaml differs from recipes/defaults.yaml. If a recipe or your own values are in"
        " params.yaml, this is no defect: `make recipe NAME=defaults` prints and replaces them. If"
        " you changed a default, change it in both files."
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_holds_only_values_that_differ_from_the_defaults(name: str) -> None:
    overlay = flatten(read_yaml(FOLDER / f"{name}.yaml"))
    defaults = flatten(load_recipe(DEFAULTS, FOLDER))
    assert overlay
    assert [key for key, value in overlay.items() if value == defaults[key]] == []
    assert list(overlay) == [key for key in defaults if key in overlay]  # in the same order
    assert overlay.get("dataset", "digits") in read_yaml(CATALOG)


@pytest.mark.parametrize("name", [DEFAULTS, *RECIPES])
def test_the_params_file_of_a_recipe_has_its_values_and_the_comments_of_the_defaults(
    name: str, tmp_path: Path
) -> None:
    text = plan_change(name, FOLDER, tmp_path / "params.yaml").text
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").model_dump(mode="json") == load_recipe(
        name, FOLDER
    )
    defaults = (FOLDER / "defaults.yaml").read_text()
    assert split_comments(text) == split_comments(defaults)
    assert text.splitlines()[0] == defaults.splitlines()[0]
    assert text.count("\n") == defaults.count("\n")
    assert (text == defaults) == (name == DEFAULTS)


@pytest.mark.parametrize("name", RECIPES)
def test_a_published_recipe_keeps_its_published_values(name: str) -> None:
    published = read_json(FOLDER / EFFECTIVE_FILE)
    values = flatten(load_recipe(name, FOLDER))
    assert published.keys() == set(RECIPES)
    assert published[name] == {key: values.get(key) for key in published[name]}, (
        "a published experiment changes: write the published value into the recipe, or run"
        " `python src/recipe.py --generate` and measure the recipe again"
    )
    assert len(published[name]) > 60


def test_after_two_recipes_the_values_equal_the_second_recipe(project: Path) -> None:
    apply(project, "cats_vs_dogs")
    apply(project, "mnist_mlp")
    assert read_yaml(project / "params.yaml") == load_recipe("mnist_mlp", FOLDER)
    apply(project, DEFAULTS)
    restored = (project / "params.yaml").read_bytes()
    assert restored == (FOLDER / "defaults.yaml").read_bytes()


@pytest.mark.parametrize("dataset", ["leaves", "my leaves", "2024", "1e3", "null", "猫"])
def test_a_recipe_is_applied_with_another_dataset(project: Path, dataset: str) -> None:
    params_file = project / "params.yaml"
    change = plan_change("photographs", project / "recipes", params_file, dataset=dataset)
    apply_change(change, params_file)
    params = load_params(params_file)
    assert params.dataset == dataset
    expected = {**load_recipe("photographs", FOLDER), "dataset": dataset}
    assert params.model_dump(mode="json") == expected
    assert f"  dataset: digits -> {dataset}" in describe_change(change)
    again = plan_change("photographs", project / "recipes", params_file, dataset="others")
    assert again.nearest_recipe == "photographs"
    assert again.edits == {"dataset": dataset}


def test_a_recipe_reports_each_value_that_changes(project: Path) -> None:
    add_recipe(project, "training: {epochs: 5}\nnetworks: {cnn: {dense_units: []}}\n")
    assert apply(project, "mine") == [
        "params.yaml: mine, 2 values changed",
        "  training.epochs: 30 -> 5",
        "  networks.cnn.dense_units: [64] -> []",
    ]
    assert apply(project, "mine") == ["params.yaml: mine, 0 values changed"]


def test_a_value_that_yaml_reads_as_a_date_is_replaced(project: Path) -> None:
    params_file = project / "params.yaml"
    params_file.write_text(params_file.read_text().replace("digits", "2024-01-31"))
    assert '  dataset: "2024-01-31" -> digits' in apply(project, DEFAULTS)
    assert load_params(params_file).dataset == "digits"


def test_a_long_list_stays_on_its_line(project: Path) -> None:
    units = list(range(1, 81))
    add_recipe(project, f"networks: {{mlp: {{units: {units}}}}}\n")
    apply(project, "mine")
    text = (project / "params.yaml").read_text()
    assert f"    units: {units} # of each hidden dense layer\n" in text


def test_own_values_are_reported_before_they_are_replaced(project: Path) -> None:
    """A user's own values differ from the nearest recipe, and the recipe changes them."""
    apply(project, "photographs")
    set_leaf(project, "dataset", "leaves")
    set_leaf(project, "training.epochs", 5)
    lines = apply(project, "mnist_tutorial_cnn")  # mnist_tutorial_cnn has 5 epochs, too
    assert lines[:3] == [
        "mnist_tutorial_cnn replaces your own values in params.yaml (compared with the nearest"
        " recipe, photographs):",
        "  dataset: leaves",
        "params.yaml: mnist_tutorial_cnn, 13 values changed",
    ]
    assert "  dataset: leaves -> mnist" in lines
    assert "own values" not in "".join(apply(project, DEFAULTS))


def test_unknown_and_missing_keys_of_the_present_file_are_reported(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("dpi: 100 ", "dpj: 3 "))
    lines = apply(project, DEFAULTS)
    assert lines[1:3] == ["  plot.dpj: 3", "params.yaml: defaults, 2 values changed"]
    assert "  plot.dpj: 3 -> absent" in lines
    assert "  plot.dpi: absent -> 100" in lines
    params.unlink()
    assert len(apply(project, DEFAULTS)) > 60
    assert params.read_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {epoch: 5}", "training.epoch: unknown key (did you mean 'epochs'?)"),
        ("trainings: {epochs: 5}", "trainings: unknown key (did you mean 'training'?)"),
        ("networks: {cnn: {units: [5]}}", "networks.cnn.units: unknown key"),
        ("preprocess: {folds: 5}", "preprocess.folds: unknown key"),
        ("training: {epochs: 0}", "training.epochs: expected a number of at least 1; found 0"),
        ("training: 5", "training: expected a mapping of keys to values; found 5"),
        ("training: {epochs: {first: 5}}", "training.epochs: expected a whole number"),
        ("training: {epochs: 5, epochs: 6}", 'not valid YAML: found duplicate key "epochs"'),
        ("# nothing", "expected the values that differ; found none"),
    ],
)
def test_a_wrong_overlay_is_refused_and_nothing_is_written(
    text: str, message: str, project: Path
) -> None:
    add_recipe(project, text)
    found = find_error(apply, project, "mine")
    assert message in found
    assert "recipes/mine.yaml" in found
    assert (project / "params.yaml").read_bytes() == (FOLDER / "defaults.yaml").read_bytes()


@pytest.mark.parametrize("text", ["training: {epochs: 5", "[1, 2]"])
def test_a_params_file_that_cannot_be_read_is_not_replaced(text: str, project: Path) -> None:
    (project / "params.yaml").write_text(text)
    with pytest.raises(PipelineError, match=r"params\.yaml"):
        apply(project, "mnist_mlp")
    assert (project / "params.yaml").read_text() == text


def test_an_unknown_recipe_is_refused_with_the_list() -> None:
    assert find_error(load_recipe, "mnist_mpl", FOLDER).endswith(
        f"found 'mnist_mpl' (did you mean 'mnist_mlp'?); known here: defaults, {', '.join(RECIPES)}"
    )
    with pytest.raises(PipelineError, match="expected the name of a recipe"):
        load_recipe("../params", FOLDER)


@pytest.mark.parametrize("name", RECIPES)
def test_the_header_of_a_recipe_is_complete(name: str) -> None:
    header = read_header(name, FOLDER)
    assert header["command"] == f"make recipe run NAME={name}"
    accuracy = header["accuracy"]
    assert accuracy.startswith("not measured: ") or ", n = " in accuracy


def test_a_header_is_read_field_by_field(project: Path) -> None:
    header = (
        "# A story\n# in two lines.\n#\n#   command     a b\n#               c\n#   network     d\n"
        "#   parameters  1\n#   accuracy    0.5\n#   time        e\n"
    )
    add_recipe(project, f"{header}\n# no header\ntrain: {{epochs: 5}}\n")
    assert read_header("mine", project / "recipes") == {
        "command": "a b c", "network": "d", "parameters": "1", "accuracy": "0.5", "time": "e"
    }  # fmt: skip
    add_recipe(project, header.replace("time", "duration"))
    with pytest.raises(PipelineError, match=r"mine\.yaml: its header has no line `#   time"):
        read_header("mine", project / "recipes")


def test_the_generated_files_follow_from_the_recipes(project: Path) -> None:
    folder = project / "recipes"
    effective, readme = folder / EFFECTIVE_FILE, folder / "README.md"
    before = effective.read_bytes(), readme.read_bytes()
    recipe = folder / "mnist_mlp.yaml"
    recipe.write_text(recipe.read_text().replace("407,050", "7").replace("200", "100"))
    write_generated(folder)
    assert read_json(effective)["mnist_mlp"]["training.batch_size"] == 100
    assert "| dense 512 | 7 |" in readme.read_text()
    shutil.copy(FOLDER / "mnist_mlp.yaml", recipe)
    write_generated(folder)
    assert (effective.read_bytes(), readme.read_bytes()) == before
    readme.write_text("no table\n")
    with pytest.raises(PipelineError, match=r"README\.md: expected a table"):
        write_generated(folder)


@pytest.mark.tf
@pytest.mark.parametrize("name", RECIPES)
def test_the_network_of_a_recipe_has_the_number_of_parameters_in_its_header(
    name: str, tmp_path: Path
) -> None:
    from imgpipe.nn.common import runtime  # noqa: F401, the first silences TensorFlow's start

    (tmp_path / "params.yaml").write_text(plan_change(name, FOLDER, tmp_path / "params.yaml").text)
    params = load_params(tmp_path / "params.yaml")
    model = build_network(
        params.network,
        params,
        shape=params.preprocess.image_shape,
        classes=CLASSES[params.dataset],
    )
    assert f"{model.count_params():,}" == read_header(name, FOLDER)["parameters"]


def test_groups_of_a_table_replace_the_groups_of_the_recipe(project: Path) -> None:
    params_file = project / "params.yaml"
    change = plan_change("photographs", project / "recipes", params_file, groups="column")
    assert change.values["preprocess.groups"] == ("none", "column")
    apply_change(change, params_file)
    assert load_params(params_file).preprocess.groups == "column"
