"""What is said twice is held together here: floors, dvc.yaml, pins, README."""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ROOT

from imgpipe.core.schema import check
from imgpipe.core.yaml_file import read_yaml
from imgpipe.experiments.studies import Regularization
from imgpipe.reporting import model_card
from imgpipe.settings.params import load_params

SRC = ROOT / "src"
STAGES = ("fetch", "preprocess", "augment", "train", "evaluate", "plot")

FLOORS = {
    "imgpipe": 0,
    "imgpipe.errors": 0,
    "imgpipe.files": 0,
    "imgpipe.listing": 0,
    "imgpipe.params": 0,
    "imgpipe.progress": 0,
    "imgpipe.stage": 0,
    "imgpipe.archives": 1,
    "imgpipe.augmentation": 1,
    "imgpipe.catalog": 1,
    "imgpipe.charts": 1,
    "imgpipe.comparison": 1,
    "imgpipe.download": 1,
    "imgpipe.images": 1,
    "imgpipe.normalization": 1,
    "imgpipe.pages": 1,
    "imgpipe.parallel": 1,
    "imgpipe.png": 1,
    "imgpipe.predictions": 1,
    "imgpipe.revisions": 1,
    "imgpipe.scores": 1,
    "imgpipe.sources": 1,
    "imgpipe.sources.digits": 1,
    "imgpipe.sources.idx": 1,
    "imgpipe.sources.image_folder": 1,
    "imgpipe.splits": 1,
    "imgpipe.studies": 1,
    "imgpipe.tfrecord": 1,
    "imgpipe.conversion": 2,
    "imgpipe.model_card": 2,
    "imgpipe.records": 2,
    "imgpipe.nn": 3,
    "imgpipe.nn.architectures": 3,
    "imgpipe.nn.dataset": 3,
    "imgpipe.nn.inference": 3,
    "imgpipe.nn.model_file": 3,
    "imgpipe.nn.random_transforms": 3,
    "imgpipe.nn.runtime": 3,
    "imgpipe.nn.training": 3,
    "imgpipe.nn.unfinished": 3,
}
# Imports between rooms of one floor, each of them wanted.
NEIGHBOURS = {
    ("imgpipe.files", "imgpipe.errors"),
    ("imgpipe.params", "imgpipe.errors"),
    ("imgpipe.stage", "imgpipe.errors"),
    ("imgpipe.stage", "imgpipe.params"),
    ("imgpipe.comparison", "imgpipe.predictions"),
    ("imgpipe.comparison", "imgpipe.scores"),
    ("imgpipe.download", "imgpipe.catalog"),
    ("imgpipe.sources", "imgpipe.catalog"),
    ("imgpipe.sources", "imgpipe.sources.digits"),
    ("imgpipe.sources", "imgpipe.sources.idx"),
    ("imgpipe.sources", "imgpipe.sources.image_folder"),
    ("imgpipe.sources.digits", "imgpipe.catalog"),
    ("imgpipe.sources.digits", "imgpipe.splits"),
    ("imgpipe.sources.idx", "imgpipe.catalog"),
    ("imgpipe.sources.idx", "imgpipe.splits"),
    ("imgpipe.sources.image_folder", "imgpipe.archives"),
    ("imgpipe.sources.image_folder", "imgpipe.catalog"),
    ("imgpipe.sources.image_folder", "imgpipe.images"),
    ("imgpipe.sources.image_folder", "imgpipe.splits"),
    ("imgpipe.conversion", "imgpipe.records"),
    ("imgpipe.model_card", "imgpipe.records"),
    ("imgpipe.nn.inference", "imgpipe.nn.dataset"),
    ("imgpipe.nn.training", "imgpipe.nn.dataset"),
    ("imgpipe.nn.training", "imgpipe.nn.unfinished"),
}
# The library that a module's name belongs to, where the two differ.
LIBRARY_OF_MODULE = {
    "PIL": "pillow",
    "google_crc32c": "google-crc32c",
    "yaml": "pyyaml",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(SRC.rglob("*.py"))}


@cache
def imported_names(path: Path) -> frozenset[str]:
    """Every dotted name that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def local_imports(module: str) -> set[str]:
    """The project's modules that a module imports, with the packages that hold them."""
    found = set()
    for name in imported_names(MODULES[module]):
        parts = name.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & MODULES.keys()
    return found - {module}


@cache
def reachable(script: str) -> set[str]:
    """A script and everything of the project that it imports, directly or not."""
    seen, waiting = set(), [script]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += local_imports(module)
    return seen


def outside_imports(module: str) -> set[str]:
    tops = {name.split(".")[0] for name in imported_names(MODULES[module])}
    return tops - set(sys.stdlib_module_names) - {"imgpipe"}


@cache
def stage_definition(stage: str) -> dict[str, Any]:
    definition: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    return definition


def tracked_keys(stage: str, file: str) -> list[str]:
    """What a stage tracks of a parameter file."""
    keys: list[str] = []
    for item in stage_definition(stage)["params"]:
        if isinstance(item, str) and file == "params.yaml":
            keys.append(item)
        elif isinstance(item, dict) and file in item:
            keys += item[file]
    return keys


def test_every_module_has_a_floor() -> None:
    assert {name for name in MODULES if name.startswith("imgpipe")} == set(FLOORS)


@pytest.mark.parametrize("module", FLOORS)
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    for imported in local_imports(module) - {"imgpipe", "imgpipe.nn"}:
        assert imported in FLOORS, f"{module} imports the script {imported}"
        below = FLOORS[imported] < FLOORS[module]
        assert below or (module, imported) in NEIGHBOURS, f"{module} imports {imported}"


def test_no_neighbourly_import_is_listed_that_is_gone() -> None:
    assert {pair for pair in NEIGHBOURS if pair[1] in local_imports(pair[0])} == NEIGHBOURS


def test_nobody_imports_a_script() -> None:
    scripts = {name for name in MODULES if not name.startswith("imgpipe")}
    assert set(STAGES) < scripts
    for module in MODULES:
        assert not local_imports(module) & scripts


def test_only_nn_imports_tensorflow_and_keras() -> None:
    heavy = {module for module in MODULES if outside_imports(module) & {"tensorflow", "keras"}}
    assert heavy
    assert all(module.startswith("imgpipe.nn.") for module in heavy)


def test_no_module_bears_a_name_of_the_standard_library() -> None:
    assert not {name.split(".")[-1] for name in MODULES} & set(sys.stdlib_module_names)


def test_light_modules_and_scripts_never_reach_tensorflow() -> None:
    """Scripts too: `train` and `evaluate` import it inside `main`, after checking parameters."""
    light = [name for name in MODULES if not name.startswith("imgpipe.nn")]
    assert set(STAGES) < set(light)
    code = (
        f"import sys, importlib; sys.path.insert(0, {SRC.as_posix()!r})\n"
        f"for name in {light!r}: importlib.import_module(name)\n"
        "from imgpipe.params import load_params; load_params()\n"
        "from imgpipe.catalog import load_entry; load_entry('mnist')\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_the_stages_are_the_six_in_order() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert tuple(stages) == STAGES
    for stage in STAGES:
        assert stages[stage]["cmd"] == f"python src/{stage}.py"


@pytest.mark.parametrize("stage", STAGES)
def test_the_deps_of_a_stage_are_what_its_script_imports(stage: str) -> None:
    deps = stage_definition(stage)["deps"]
    code = {dep for dep in deps if dep.startswith("src/")}
    assert code == {MODULES[name].relative_to(ROOT).as_posix() for name in reachable(stage)}
    assert len(deps) == len(set(deps))


@pytest.mark.parametrize("stage", STAGES)
def test_the_data_deps_of_a_stage_are_outputs_of_earlier_ones(stage: str) -> None:
    outputs = {
        item if isinstance(item, str) else next(iter(item))
        for earlier in STAGES[: STAGES.index(stage)]
        for kind in ("outs", "metrics", "plots")
        for item in stage_definition(earlier).get(kind, [])
    }
    data = {dep for dep in stage_definition(stage)["deps"] if not dep.startswith("src/")}
    own_images = {"data/local"} if stage == "fetch" else set()
    assert data - own_images <= outputs
    assert own_images <= data


@pytest.mark.parametrize("stage", STAGES)
def test_the_paths_in_a_script_are_those_of_its_stage(stage: str) -> None:
    definition = stage_definition(stage)
    declared = {dep for dep in definition["deps"] if not dep.startswith("src/")} | {
        item if isinstance(item, str) else next(iter(item))
        for kind in ("outs", "metrics", "plots")
        for item in definition.get(kind, [])
    }
    named = set(re.findall(r'Path\("([\w/.-]+)"\)', MODULES[stage].read_text()))
    named = {path for path in named if not path.endswith(".partial")}
    for path in declared:
        assert any(path == name or path.startswith(f"{name}/") for name in named), path
    for name in named:
        assert any(path == name or path.startswith(f"{name}/") for path in declared), name


def library_groups(script: str) -> list[str]:
    """The groups of pyproject.toml whose libraries a script imports, directly or not."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    group_of = {pin.split("==")[0]: group for group, pins in groups.items() for pin in pins}
    modules = set().union(*(outside_imports(module) for module in reachable(script)))
    wanted = {group_of[LIBRARY_OF_MODULE.get(module, module)] for module in modules}
    return sorted(f"project.optional-dependencies.{group}" for group in wanted)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_the_libraries_that_it_imports(stage: str) -> None:
    named = set(library_groups(stage))
    if stage == "plot":  # its model card names their versions
        named |= {f"project.optional-dependencies.{group}" for group in model_card.GROUPS}
    assert tracked_keys(stage, "pyproject.toml") == sorted(named)


def test_the_model_card_names_the_libraries_of_all_stages() -> None:
    used = {group for stage in STAGES for group in library_groups(stage)}
    assert {f"project.optional-dependencies.{group}" for group in model_card.GROUPS} == used


STUDIES = sorted(path.parent.name for path in (ROOT / "studies").glob("*/dvc.yaml"))


@cache
def study_stages(study: str) -> dict[str, dict[str, Any]]:
    """The stages of a study's pipeline, those that are repeated once."""
    stages = read_yaml(ROOT / "studies" / study / "dvc.yaml")["stages"]
    return {name: stage.get("do", stage) for name, stage in stages.items()}


EVERY_STUDY_STAGE = [(study, stage) for study in STUDIES for stage in study_stages(study)]


def script_of(definition: dict[str, Any]) -> str:
    (script,) = re.findall(r"^python src/(\w+)\.py", definition["cmd"])
    return str(script)


def outputs_of(definition: dict[str, Any]) -> set[str]:
    return {
        item if isinstance(item, str) else next(iter(item))
        for kind in ("outs", "metrics", "plots")
        for item in definition.get(kind, [])
    }


def test_there_are_studies_and_each_has_its_last_script() -> None:
    assert {"bagging", "cross_validation", "regularization"} == set(STUDIES)
    for study in STUDIES:
        *_, last = study_stages(study).values()
        assert script_of(last) == study
        command = f"#   command   dvc repro studies/{study}/dvc.yaml\n"
        assert command in (ROOT / "studies" / study / "dvc.yaml").read_text()


@pytest.mark.parametrize(("study", "stage"), EVERY_STUDY_STAGE)
def test_a_stage_of_a_study_depends_on_what_its_script_does(study: str, stage: str) -> None:
    definition = study_stages(study)[stage]
    script = script_of(definition)
    assert definition["wdir"] == "../.."
    code = [dep for dep in definition["deps"] if dep.startswith("src/")]
    assert sorted(code) == sorted(
        MODULES[name].relative_to(ROOT).as_posix() for name in reachable(script)
    )
    tracked: dict[str, list[str]] = {"params.yaml": []}
    for item in definition["params"]:
        if isinstance(item, str):
            tracked["params.yaml"].append(item)
        else:
            tracked |= item
    assert tracked["pyproject.toml"] == library_groups(script)
    if script in STAGES:  # the values that the stage reads in the main pipeline
        assert tracked["params.yaml"] == [
            key.replace("${train.architecture}", "cnn") if study == "regularization" else key
            for key in tracked_keys(script, "params.yaml")
        ]
        catalog = tracked_keys(script, "data/catalog.yaml")
        assert tracked.get("data/catalog.yaml", []) == catalog


@pytest.mark.parametrize(("study", "stage"), EVERY_STUDY_STAGE)
def test_the_files_of_a_stage_of_a_study_are_those_of_its_command(study: str, stage: str) -> None:
    definition = study_stages(study)[stage]
    made_before = set().union(
        *(outputs_of(stage_definition(name)) for name in STAGES),
        *(outputs_of(other) for name, other in study_stages(study).items() if name != stage),
    )
    data = {dep for dep in definition["deps"] if not dep.startswith("src/")}
    data.discard(f"studies/{study}/params.yaml")
    for dep in data:
        assert (
            any(
                dep == made or dep.startswith(f"{made}/") or made.startswith(f"{dep}/")
                for made in made_before
            )
            or re.sub(r"item\.variant\.training_images", "key", dep) in made_before
        ), dep
    script = MODULES[script_of(definition)].read_text()
    options = dict(re.findall(r"--(\w+) (\S+)", definition["cmd"]))
    settings = options.pop("set", None)
    defaults = dict(re.findall(r'^    (\w+): Path = Path\("([\w/]+)"\)', script, re.MULTILINE))
    assert options.keys() <= defaults.keys()
    for place in {**defaults, **options}.values():
        assert any(
            path == place or path.startswith(f"{place}/") for path in data | outputs_of(definition)
        ), place
    if settings:
        text = definition["cmd"].partition("--set ")[2]
        keys = re.findall(r"([\w.]+)=", text)
        assert keys
        assert set(keys) <= set(PARAMETERS)


def test_the_variants_of_the_regularization_study_set_what_exists() -> None:
    study = check(
        Regularization,
        read_yaml(ROOT / "studies" / "regularization" / "params.yaml"),
        "studies/regularization/params.yaml",
    )
    chosen = {}
    for variant in study.variants:
        load_params(ROOT / "params.yaml", changes=variant.set.split())
        chosen[variant.name] = {*variant.set.split(), variant.training_images}
    keys = [{change.partition("=")[0] for change in changes} for changes in chosen.values()]
    assert all(len(names) == 4 for names in keys)  # every variant says all, three values and images
    assert len({frozenset(changes) for changes in chosen.values()}) == len(chosen) == 5


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from leaves(item, f"{prefix}{key}.")
        else:
            yield prefix + key


PARAMETERS = list(leaves(read_yaml(ROOT / "params.yaml")))


@cache
def reading_code(module: str) -> str:
    """The code in which a parameter is used: of `params`, which declares them, the properties."""
    text = MODULES[module].read_text()
    if module != "imgpipe.params":
        return text
    properties = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)
    ]
    assert properties
    return "".join(properties)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_the_values_that_dvc_tracks(stage: str) -> None:
    """What may not change while a stage runs is what DVC records at its end."""
    params = load_params(ROOT / "params.yaml")
    tracked = [
        key.replace("${train.architecture}", params.train.architecture)
        for key in tracked_keys(stage, "params.yaml")
    ]
    tracked += [
        key.replace("${dataset}", params.dataset)
        for key in tracked_keys(stage, "data/catalog.yaml")
    ]
    assert sorted(importlib.import_module(stage).uses(params)) == sorted(tracked)


@pytest.mark.parametrize("study", ["bagging", "cross_validation"])
def test_the_last_stage_of_a_study_watches_the_values_that_dvc_tracks(study: str) -> None:
    *_, last = study_stages(study).values()
    tracked = [
        key
        for item in last["params"]
        if "pyproject.toml" not in item
        for key in ([item] if isinstance(item, str) else next(iter(item.values())))
    ]
    params = load_params(ROOT / "params.yaml")
    assert sorted(importlib.import_module(study).uses(params)) == sorted(tracked)


@pytest.mark.parametrize("leaf", PARAMETERS)
def test_every_parameter_is_read_by_a_stage_that_tracks_it(leaf: str) -> None:
    attribute = leaf.rpartition(".")[2]
    readers = []
    for stage in STAGES:
        # Of the architectures, the chosen one is tracked by a template.
        keys = [
            key.replace("${train.architecture}", leaf.split(".")[1] if "." in leaf else "")
            for key in tracked_keys(stage, "params.yaml")
        ]
        if any(leaf == key or leaf.startswith(key + ".") for key in keys):
            code = "".join(reading_code(name) for name in reachable(stage))
            if re.search(rf"\.{attribute}\b", code):
                readers.append(stage)
    assert readers


def test_every_leaf_has_a_comment() -> None:
    for line in (ROOT / "params.yaml").read_text().splitlines():
        if re.match(r" *[a-z_0-9]+: \S", line):
            assert re.search(r"  # \S", line), line


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_is_a_complete_params_file_with_its_story(recipe: Path) -> None:
    load_params(recipe)
    assert list(leaves(read_yaml(recipe))) == PARAMETERS
    for line in recipe.read_text().splitlines():
        if re.match(r" *[a-z_0-9]+: \S", line):
            assert re.search(r"  # \S", line), line
    header = recipe.read_text().split("\ndataset:")[0]
    assert f"#   command   make recipe run NAME={recipe.stem}\n" in header
    for part in ("#   command   ", "#   time      ", "#   accuracy  "):
        assert part in header
    dataset = load_params(recipe).dataset
    assert dataset in read_yaml(ROOT / "data" / "catalog.yaml")


def test_the_lock_holds_every_pin_with_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.txt").read_text()
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for pin in (pin for pins in groups.values() for pin in pins):
        assert re.search(rf"^{re.escape(pin)} ", lock, re.MULTILINE), pin
    assert not re.search(r"https?:|file:|--(index|extra-index|find-links)", lock)
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


def tracked_files() -> list[str]:
    """The files that git tracks, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_names_are_good_on_every_system() -> None:
    """Also where case makes no difference, and where Windows has its devices."""
    names = tracked_files()
    assert len({name.lower() for name in names}) == len(names) > 100
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", name), name
        for part in Path(name).parts:
            assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part), name
            assert not part.endswith("."), name


def test_text_has_unix_line_ends() -> None:
    """Hashes would differ otherwise; .gitattributes keeps git from changing them."""
    assert "* text=auto eol=lf\n" in (ROOT / ".gitattributes").read_text()
    for name in tracked_files():
        content = (ROOT / name).read_bytes()
        assert b"\0" in content or b"\r\n" not in content, name


def test_every_make_target_is_in_its_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def readme_code() -> list[str]:
    """Everything that README shows as code, line by line."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    without_blocks = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(
        r"`([^`\n]+)`", without_blocks
    )


def test_the_make_targets_that_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for line in readme_code() for target in re.findall(r"\bmake ([a-z-]+)", line)}
    assert {"run", "test"} <= named
    assert named <= targets


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


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_readme_says_of_a_recipe_what_its_header_says(recipe: Path) -> None:
    text = recipe.read_text()
    (accuracy,) = re.findall(r"^#   accuracy  (.*?)(?:, on .*)?$", text, re.MULTILINE)
    (row,) = re.findall(
        rf"^\| `{recipe.stem}` \|.*$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    _, _, _, parameters, measured, runs, *_ = [cell.strip() for cell in row.split("|")]
    (stated,) = re.findall(r"\(([\d,]+) *parameters", text.replace("\n# ", " "))
    assert parameters == stated
    if measured == "not measured":
        assert accuracy.startswith(measured)
    else:
        seeds = " seeds" if int(runs) > 1 else ""
        assert accuracy == f"{measured}, n = {runs}{seeds}"


def test_the_scores_of_the_studies_are_those_in_readme() -> None:
    text = (ROOT / "README.md").read_text()
    folds = json.loads((ROOT / "studies" / "cross_validation" / "metrics.json").read_text())
    runs = read_yaml(ROOT / "studies" / "cross_validation" / "params.yaml")["run_folds"]
    accuracy = f"{folds['folds_accuracy']:.4f}, sd {folds['folds_accuracy_sd']:.4f}"
    assert f"| `digits`, five folds | {accuracy} | {len(runs)} |" in text
    table = pd.read_csv(ROOT / "studies" / "bagging" / "members.csv").set_index("member")
    ensemble = table.loc["ensemble"]
    interval = f"{ensemble['accuracy_low']:.4f} to {ensemble['accuracy_high']:.4f}"
    assert f"| `digits`, five bagged | {ensemble['accuracy']:.4f} | 1 |" in text
    assert f" {interval} | `dvc repro studies/bagging/dvc.yaml` |" in text


def test_the_accuracy_of_the_committed_run_is_the_one_in_readme() -> None:
    scores = json.loads((ROOT / "metrics" / "test.json").read_text())
    cells = [
        "`digits`, committed",
        f"{scores['accuracy']:.4f}",
        "1",
        f"{scores['images']}",
        f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f}",
        "`make run`",
    ]
    assert f"| {' | '.join(cells)} |" in (ROOT / "README.md").read_text()


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


def test_the_annotated_tree_of_readme_is_complete() -> None:
    (tree,) = re.findall(r"```text\n(src/\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    named = set(re.findall(r"^ *([\w]+)(?:\.py|/) ", tree, re.MULTILINE))
    modules = {name.rpartition(".")[2] for name in MODULES} - {"imgpipe"}
    assert modules <= named | {"imgpipe"}
