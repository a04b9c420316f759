"""The layers of the code, and what dvc.yaml says of each stage, against the imports."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, SRC, STAGES

from imgpipe.core import paths
from imgpipe.core.libraries import OPTIONAL_GROUPS
from imgpipe.core.yaml_file import read_yaml
from imgpipe.reporting import model_card

# A package imports only packages of the lines above its own.
(LAYER_LINES,) = re.findall(
    r"^## Layers\n.*?^```text\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.M
)
LAYERS = [set(line.split(" | ")) for line in LAYER_LINES.splitlines()]
# Their lines cannot change an output of a stage, so no stage depends on them.
WITHOUT_EFFECT = {"console", "running"}
# It imports all schemas, to check the whole file; that can stop a stage, not change its outputs.
WHOLE_FILE_CHECK = "imgpipe.settings.params"
# Their modules are imported by name, when a network is built.
IMPORTED_BY_NAME = "imgpipe.nn.networks"
METHODS = ["training", "transfer"]
# The library of a module, if its name is another.
LIBRARY_OF_MODULE = {
    "PIL": "pillow",
    "google_crc32c": "google-crc32c",
    "pillow_heif": "pillow-heif",
    "ruamel": "ruamel-yaml",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(SRC.rglob("*.py"))}
SCRIPTS = sorted(name for name in MODULES if name.split(".")[0] != "imgpipe")


def package_of(module: str) -> str:
    """The package of `LAYERS` that a module belongs to; "" for the docstrings above them."""
    if module in SCRIPTS:
        return "scripts"
    _, *parts = module.split(".")
    if parts[:1] == ["nn"]:
        return ".".join(parts[:2]) if len(parts) > 1 else ""
    return parts[0] if parts else ""


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


def is_empty(module: str) -> bool:
    """Whether a module holds a docstring only, as the `__init__.py` of most packages."""
    return len(ast.parse(MODULES[module].read_text()).body) <= 1


def local_imports(module: str) -> set[str]:
    """The project's modules that a module imports, with the packages that hold them."""
    found = set()
    for name in imported_names(MODULES[module]):
        parts = name.split(".")
        found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)} & MODULES.keys()
    return {name for name in found - {module} if not is_empty(name)}


@cache
def reachable(script: str, method: str) -> frozenset[str]:
    """A script and all modules of the project that it imports with a method, directly or not.

    Except the schemas that only the check of the whole of params.yaml imports, and the packages
    that cannot change an output.
    """
    left_out = WITHOUT_EFFECT | {f"nn.{other}" for other in METHODS if other != method}
    seen: set[str] = set()
    waiting = [script]
    while waiting:
        module = waiting.pop()
        if module not in seen and package_of(module) not in left_out:
            seen.add(module)
            imports = local_imports(module)
            if module == IMPORTED_BY_NAME:
                imports |= {name for name in MODULES if name.startswith(f"{module}.")}
            if module == WHOLE_FILE_CHECK:
                imports = {name for name in imports if package_of(name) != "settings"}
            waiting += imports
    return frozenset(seen)


def outside_imports(module: str) -> set[str]:
    tops = {name.split(".")[0] for name in imported_names(MODULES[module])}
    return tops - set(sys.stdlib_module_names) - {"imgpipe"}


@cache
def stage_definition(stage: str) -> dict[str, Any]:
    definition: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    return definition


def dependencies_of(stage: str, method: str) -> list[str]:
    """The files and folders that a stage depends on, with a method."""
    return [dep.replace("${method}", method) for dep in stage_definition(stage)["deps"]]


def tracked_keys(stage: str, file: str) -> list[str]:
    """The keys of a parameter file that a stage depends on."""
    keys: list[str] = []
    for item in stage_definition(stage)["params"]:
        if isinstance(item, str) and file == "params.yaml":
            keys.append(item)
        elif isinstance(item, dict) and file in item:
            keys += item[file]
    return keys


def outputs_of(stage: str) -> set[str]:
    return {
        item if isinstance(item, str) else next(iter(item))
        for kind in ("outs", "metrics", "plots")
        for item in stage_definition(stage).get(kind, [])
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_layers_above_its_own(module: str) -> None:
    layer = {package: number for number, packages in enumerate(LAYERS) for package in packages}
    package = package_of(module)
    if package == "":
        assert is_empty(module)
        return
    for imported in local_imports(module):
        other = package_of(imported)
        assert other != "scripts", f"{module} imports the script {imported}"
        assert other == package or layer[other] < layer[package], f"{module} imports {imported}"


def test_every_layer_is_there() -> None:
    named = set().union(*LAYERS)
    assert {package_of(module) for module in MODULES} - {""} == named


def test_no_modules_import_each_other_in_a_circle() -> None:
    waiting = {module: local_imports(module) for module in MODULES}
    while waiting:
        free = {module for module, imports in waiting.items() if not imports & waiting.keys()}
        assert free, f"in a circle: {sorted(waiting)}"
        waiting = {module: imports for module, imports in waiting.items() if module not in free}


def test_only_nn_imports_tensorflow_and_keras() -> None:
    heavy = {module for module in MODULES if outside_imports(module) & {"tensorflow", "keras"}}
    assert heavy
    assert all(module.startswith("imgpipe.nn.") for module in heavy)


def test_modules_outside_nn_never_load_tensorflow() -> None:
    """Scripts neither: `train` and `evaluate` import it in `main`, after checking params.yaml."""
    light = [name for name in MODULES if not name.startswith("imgpipe.nn")]
    assert set(STAGES) < set(light)
    code = (
        f"import sys, importlib; sys.path.insert(0, {SRC.as_posix()!r})\n"
        f"for name in {light!r}: importlib.import_module(name)\n"
        "from imgpipe.settings.params import load_params; load_params()\n"
        "from imgpipe.datasets.catalog import load_entry; load_entry('mnist')\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_no_module_has_a_name_of_the_standard_library() -> None:
    assert not {name.split(".")[-1] for name in MODULES} & set(sys.stdlib_module_names)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_main_of_a_script_is_short(script: str) -> None:
    (main,) = (
        node
        for node in ast.parse(MODULES[script].read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    )
    assert main.end_lineno is not None
    assert main.end_lineno - main.lineno < 40


def test_the_stages_are_the_six_in_order() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert list(stages) == STAGES
    for stage in STAGES:
        assert stages[stage]["cmd"] == f"python src/{stage}.py"


def used_files(stage: str, method: str) -> set[str]:
    """The modules that a stage imports with a method, and the schemas of its sections."""
    files = {MODULES[name].relative_to(ROOT).as_posix() for name in reachable(stage, method)}
    keys = [key.replace("${method}", method) for key in tracked_keys(stage, "params.yaml")]
    sections = {f"imgpipe.settings.{key.split('.')[0]}" for key in keys}
    return files | {MODULES[name].relative_to(ROOT).as_posix() for name in sections & set(MODULES)}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_modules_that_it_imports(stage: str, method: str) -> None:
    deps = dependencies_of(stage, method)
    assert len(deps) == len(set(deps))
    for file in used_files(stage, method):
        assert any(covers(dep, file) for dep in deps), f"{stage} imports {file}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_code_that_it_does_not_import(stage: str) -> None:
    """With one of the methods; `train` depends on what `transfer` imports with both."""
    used = {method: used_files(stage, method) for method in METHODS}
    for method in METHODS:
        for template in stage_definition(stage)["deps"]:
            dep = template.replace("${method}", method)
            if dep.startswith("src/"):
                assert (ROOT / dep).exists(), dep
                files = used[method] if dep != template else set().union(*used.values())
                assert any(covers(dep, file) for file in files), f"{stage} does not use {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_data_dependencies_of_a_stage_are_outputs_of_earlier_stages(stage: str) -> None:
    earlier = set().union(*(outputs_of(name) for name in STAGES[: STAGES.index(stage)]))
    data = {dep for dep in stage_definition(stage)["deps"] if not dep.startswith("src/")}
    own_images = {"data/local/${dataset}"} if stage == "fetch" else set()
    assert own_images <= data
    assert data - own_images <= earlier


def used_paths(module: str) -> set[str]:
    """The constants of `core.paths` that a module uses, by their names."""
    tree = ast.parse(MODULES[module].read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "imgpipe.core.paths"
        for alias in node.names
    }
    attributes = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "paths"
    }
    return (imported | attributes) & vars(paths).keys()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_paths_that_its_code_uses(stage: str) -> None:
    data = {dep for dep in stage_definition(stage)["deps"] if not dep.startswith("src/")}
    used = set().union(
        *(used_paths(name) for method in METHODS for name in reachable(stage, method))
    )
    assert {vars(paths)[name].as_posix() for name in used} == (
        data - {"data/local/${dataset}"} | outputs_of(stage)
    )


def test_only_one_module_names_the_paths_between_stages() -> None:
    named = {path.as_posix() for path in vars(paths).values() if isinstance(path, Path)}
    assert named == set().union(*map(outputs_of, STAGES))
    for module, path in MODULES.items():
        if module != paths.__name__:
            texts = {
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            assert not texts & named, module


def library_groups(script: str) -> list[str]:
    """The groups of pyproject.toml whose libraries a script imports, directly or not.

    Dask is left out: it only decides where a shard is computed, which changes no output.
    """
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    group_of = {pin.split("==")[0]: group for group, pins in groups.items() for pin in pins}
    reached = set().union(*(reachable(script, method) for method in METHODS))
    modules = set().union(*map(outside_imports, reached))
    modules -= {"dask", "distributed"}
    return sorted({group_of[LIBRARY_OF_MODULE.get(module, module)] for module in modules})


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_tracks_the_libraries_that_it_imports(stage: str) -> None:
    expected = set(library_groups(stage))
    if stage == "plot":  # its model card lists their versions
        expected |= set(model_card.GROUPS)
    assert tracked_keys(stage, "pyproject.toml") == [
        f"project.optional-dependencies.{group}" for group in sorted(expected)
    ]


def test_the_model_card_lists_the_libraries_of_all_stages_but_optional_ones() -> None:
    groups = {group for stage in STAGES for group in library_groups(stage)}
    assert groups > set(OPTIONAL_GROUPS)
    assert set(model_card.GROUPS) == groups - set(OPTIONAL_GROUPS)
