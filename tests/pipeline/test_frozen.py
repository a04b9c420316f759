"""A stage that is frozen by hand, as the guide says, stays as it is."""

from pathlib import Path

import pytest
from support import ROOT, dvc, hash_files, make_copy, read_blocks, set_leaf, stages_run

from imgpipe.core.yaml_file import format_yaml, read_yaml

pytestmark = pytest.mark.e2e


def test_the_line_in_the_guide_freezes_a_stage_until_it_is_deleted(tmp_path: Path) -> None:
    guide = ROOT / "docs" / "experiments.md"
    (block,) = (block for block in read_blocks(guide) if block.language == "yaml")
    written = tmp_path / "guide.yaml"
    written.write_text(block.code)
    ((stage, line),) = read_yaml(written)["stages"].items()
    folder = make_copy(tmp_path / "project")
    assert stages_run(dvc(folder, "repro", stage)) == [stage]
    raw = hash_files(folder / "data" / "raw")
    definitions = read_yaml(folder / "dvc.yaml")
    plain = [name for name, entry in definitions["stages"].items() if "${" not in str(entry)]
    assert plain == ["augment"]  # as the guide says

    definitions["stages"][stage] |= line
    (folder / "dvc.yaml").write_text(format_yaml(definitions))
    set_leaf(folder, "allow_unpinned", True)  # a dependency of the stage
    output = dvc(folder, "repro", stage)
    assert "is frozen" in output
    assert stages_run(output) == []
    assert hash_files(folder / "data" / "raw") == raw

    del definitions["stages"][stage]["frozen"]
    (folder / "dvc.yaml").write_text(format_yaml(definitions))
    assert stages_run(dvc(folder, "repro", stage)) == [stage]
