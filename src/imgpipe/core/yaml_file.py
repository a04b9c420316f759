"""Read YAML as DVC does: the scalars of YAML 1.2, and no key twice.

PyYAML by itself follows YAML 1.1: `1e-3` is a string, `010` is 8 and `no` is false. DVC reads the
same files with ruamel.yaml, by YAML 1.2; a test uses ruamel.yaml to check this reader. It differs
only for dates and for numbers such as `1_000`, `0b11` and `-0x1F`, which are not part of the core
schema of YAML 1.2: here they are text, which a schema that expects a number refuses.
Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

import re
from pathlib import Path
from typing import Any

import yaml

from imgpipe.core.errors import PipelineError

_MERGE_TAG = "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        PipelineError: the file is missing, is not YAML, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError(
            f"{path.as_posix()}: not found; run from the project's top folder"
        ) from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path.as_posix()}: expected UTF-8 text") from None
    return parse_yaml(text, path.as_posix())


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML as `read_yaml` does; `where` names the text in an error."""
    try:
        return yaml.load(text, Loader=_CoreSchemaLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise PipelineError(f"{where}:{place} not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise PipelineError(
            f"{where}: not valid YAML: character {error.position + 1} is"
            f" U+{error.character:04X}, which YAML does not allow"
        ) from None


class _CoreSchemaLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, as PyYAML declares it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for key_node, _ in node.value:
            if key_node.tag == _MERGE_TAG:
                continue
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            keys.append(key)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        try:
            return int(text, 0) if text.startswith(("0x", "0o")) else int(text, 10)
        except ValueError:  # only with an explicit tag: !!int many
            raise yaml.constructor.ConstructorError(
                None, None, f"expected an integer; found {text!r}", node.start_mark
            ) from None


for _tag, _pattern in (  # the first pattern that matches wins
    ("bool", "true|True|TRUE|false|False|FALSE"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
    ("null", "~|null|Null|NULL|"),
    ("merge", "<<"),  # of YAML 1.1; DVC reads it
):
    _CoreSchemaLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), None
    )
_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:int", _CoreSchemaLoader.construct_int)
