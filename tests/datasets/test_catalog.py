from pathlib import Path
from typing import Any, get_args

import pytest
from support import CATALOG, ROOT, find_error, git

from imgpipe.core.yaml_file import format_yaml, read_yaml
from imgpipe.datasets.catalog import (
    DownloadEntry,
    LocalEntry,
    check_entry,
    check_manifest,
    load_entry,
    write_manifest,
)
from imgpipe.datasets.formats import FORMATS


def error_of(tmp_path: Path, catalog: Any, dataset: str) -> str:
    path = tmp_path / "catalog.yaml"
    path.write_text(format_yaml(catalog))
    return find_error(load_entry, dataset, path).replace(tmp_path.as_posix() + "/", "")


def own_entry(**described: Any) -> dict[str, Any]:
    """An entry for a user's own folder."""
    kind = {"kind": "image_folder"}
    return {"title": "Leaves", "files": "data/local/leaves", "format": {**kind, **described}}


@pytest.mark.parametrize("dataset", read_yaml(CATALOG))
def test_every_entry_is_valid(dataset: str) -> None:
    entry = load_entry(dataset, CATALOG)
    assert isinstance(entry, DownloadEntry)
    assert isinstance(entry.format, FORMATS[entry.format.kind])
    assert entry.license
    assert entry.citation
    placeholder = f"data/local/{dataset}"  # `fetch` depends on it, also in a clone
    assert (ROOT / placeholder).is_file()
    assert git(ROOT, "ls-files", placeholder), f"git add -f {placeholder}"


def test_a_users_own_folder_needs_four_lines(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(format_yaml({"leaves": own_entry()}))
    entry = load_entry("leaves", path)
    assert isinstance(entry, LocalEntry)
    assert entry.archive_name == "leaves.zip"


@pytest.mark.parametrize(
    "folder",
    ["data/local/leafs", "../leaves", "/data/local/leaves", "data/local/..", "data/local",
     "data/local/leaves/b", ""],
)  # fmt: skip
def test_a_users_own_folder_has_the_name_of_its_dataset(tmp_path: Path, folder: str) -> None:
    entry = {**own_entry(), "files": folder}
    assert error_of(tmp_path, {"leaves": entry}, "leaves") == (
        "catalog.yaml: leaves.files: expected data/local/leaves, because your own folder has the"
        " name of its dataset, or data/local/leaves/manifest.csv; found"
        f" {folder!r}; rename the folder, or the entry"
    )


@pytest.mark.parametrize("name", ["../leaves", "a.b", "a/b", ".hidden", " "])
def test_the_name_of_a_dataset_is_plain(tmp_path: Path, name: str) -> None:
    entry = {**own_entry(), "files": f"data/local/{name}"}
    assert error_of(tmp_path, {name: entry}, name) == (
        f"catalog.yaml: {name}: expected a name of letters, digits, _ and -"
    )


MNIST = read_yaml(CATALOG)["mnist"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("digits.files", "data/local/digits",
         "expected a list of files, because the format digits does not read folders; found"
         " 'data/local/digits'"),
        ("digits.files", MNIST["files"][:2], "expected one file; found 2: train-images-idx3-"),
        ("digits.format.classes", ["0", "1", "2", "1"], "expected distinct names; found '1' twice"),
        ("mnist.files", MNIST["files"] * 2, "expected distinct names; found 't10k-"),
        ("mnist.files.1.sha256", "3552",
         "expected text of the form ^([0-9a-f]{64}|unpublished)$; found '3552'"),
        ("mnist.format.splits.test.images", "t10k-images.gz",
         "expected one of the entry's files; found 't10k-images.gz'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_reported_with_its_key(
    tmp_path: Path, catalog_value: dict[str, Any], key: str, value: Any, expected: str
) -> None:
    section: Any = catalog_value
    *path, last = [int(step) if step.isdigit() else step for step in key.split(".")]
    for step in path:
        section = section[step]
    section[last] = value
    message = error_of(tmp_path, catalog_value, key.split(".")[0])
    assert message.startswith(f"catalog.yaml: {key}: {expected}")


@pytest.mark.parametrize(
    ("key", "read_as"), [("007", "7"), ("2024", "2024"), ("1e3", "1000.0"), ("null", "None")]
)
def test_a_name_that_is_no_text_in_the_catalog_needs_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, read_as: str
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = "{title: '', files: 'data/local/NAME', format: {kind: image_folder}}".replace(
        "NAME", key
    )
    Path("catalog.yaml").write_text(f"{key}: {entry}\n")
    line = find_error(load_entry, key, Path("catalog.yaml"))
    assert line.endswith(f"; there, the name that YAML reads as {read_as} needs quotes")
    Path("catalog.yaml").write_text(f'"{key}": {entry}\n')
    assert load_entry(key, Path("catalog.yaml")).title == ""


def test_unknown_dataset_names_the_nearest(tmp_path: Path, catalog_value: dict[str, Any]) -> None:
    assert error_of(tmp_path, catalog_value, "fashion-mnist") == (
        f"params.yaml: dataset: expected an entry of catalog.yaml ({', '.join(catalog_value)});"
        " found 'fashion-mnist' (did you mean 'fashion_mnist'?)"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"root": "../x"}, "format.root: expected text of the form"),
        ({"root": "/x"}, "format.root: expected text of the form"),
        ({"splits": {"test": "t"}}, "format.splits.train: this key is missing"),
        (
            {"splits": {"train": "a", "tset": "b"}},
            "format.splits.tset: unknown key (did you mean 'test'?); known here: train,",
        ),
        ({"classes": ["a"]}, "format.classes: expected at least 2 values; found ['a']"),
        ({"classes": ["a", "b", "a"]}, "format.classes: expected distinct names; found 'a' twice"),
        ({"clases": ["a", "b"]}, "format.clases: unknown key (did you mean 'classes'?)"),
    ],
)
def test_the_keys_of_an_image_folder_are_checked(
    tmp_path: Path, catalog_value: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    for entry in (own_entry(), catalog_value["flowers"]):
        entry["format"] = {"kind": "image_folder", **change}
        message = error_of(tmp_path, {"leaves": entry}, "leaves")
        assert message.startswith(f"catalog.yaml: leaves.{expected}")


@pytest.mark.parametrize("name", ["../evil.gz", "/etc/passwd", "a/b.gz", ""])
def test_a_file_name_cannot_lead_out_of_the_folder(
    tmp_path: Path, catalog_value: dict[str, Any], name: str
) -> None:
    catalog_value["digits"]["files"][0]["name"] = name
    message = error_of(tmp_path, catalog_value, "digits")
    assert "digits.files.0.name: expected text of the form" in message


@pytest.mark.parametrize("kind", FORMATS)
def test_an_unknown_kind_names_the_nearest(
    tmp_path: Path, catalog_value: dict[str, Any], kind: str
) -> None:
    catalog_value["digits"]["format"]["kind"] = f"{kind}s"
    assert error_of(tmp_path, catalog_value, "digits") == (
        f"catalog.yaml: digits.format.kind: expected one of {', '.join(FORMATS)};"
        f" found '{kind}s' (did you mean {kind!r}?)"
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_has_a_description(kind: str) -> None:
    assert get_args(FORMATS[kind].model_fields["kind"].annotation) == (kind,)
    assert FORMATS[kind].description
    assert "\n" not in FORMATS[kind].description


def test_an_empty_catalog_is_reported(tmp_path: Path) -> None:
    assert "expected a mapping of names to datasets" in error_of(tmp_path, None, "digits")


# Many files, and files that are read in place.

HASH = "0" * 64


def remote_entry(**values: Any) -> dict[str, Any]:
    files = [{"name": "a.zip", "bytes": 10, "sha256": HASH}]
    return {
        "title": "Birds", "license": "", "citation": "", "urls": ["s3://photographs/birds"],
        "files": {"in_place": files}, "format": {"kind": "image_folder"}, **values,
    }  # fmt: skip


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("in_place", [True, False])
def test_a_table_may_list_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = Path("data/local/birds/manifest.csv")
    write_lines(manifest, "name,bytes,sha256", f"a.zip,10,{HASH}", f"b.tar,2000,{HASH}")
    listed = manifest.as_posix()
    catalog = {"birds": remote_entry(files={"in_place": listed} if in_place else listed)}
    path = tmp_path / "catalog.yaml"
    path.write_text(format_yaml(catalog))
    entry = load_entry("birds", path)
    assert isinstance(entry, DownloadEntry)
    assert [(f.name, f.bytes, f.sha256) for f in entry.files] == [
        ("a.zip", 10, HASH), ("b.tar", 2000, HASH),
    ]  # fmt: skip
    assert entry.in_place is in_place
    before = manifest.read_bytes()
    write_manifest(manifest, entry.files)
    assert manifest.read_bytes() == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "data/local/birds/manifest.csv: expected a table with a file in a line"),
        ([], "data/local/birds/manifest.csv: expected the columns name, bytes, sha256; found none"),
        (["name,size"],
         "data/local/birds/manifest.csv: expected the columns name, bytes, sha256; found name,"
         " size"),
        (["name,bytes,sha256"],
         "catalog.yaml: birds.files: expected at least 1 values; found []"),
        (["name,bytes,sha256", f"a.zip,10,{HASH}", "b.zip,many,0"],
         "data/local/birds/manifest.csv: line 3: bytes: expected a whole number; found 'many'"
         " (and 1 more)"),
        (["name,bytes,sha256", f"../a.zip,10,{HASH}"],
         "data/local/birds/manifest.csv: line 2: name: expected text of the form"
         " ^[A-Za-z0-9_][A-Za-z0-9_.-]*$; found '../a.zip'"),
        (["name,bytes,sha256", "a.zip,10"],
         "data/local/birds/manifest.csv: line 2: sha256: this key is missing"),
        (["name,bytes,sha256", f"a.zip,10,{HASH}", f"a.zip,10,{HASH}"],
         "catalog.yaml: birds.files: expected distinct names; found 'a.zip' twice"),
    ],
)  # fmt: skip
def test_an_error_in_the_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str] | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = Path("data/local/birds/manifest.csv")
    if lines is not None:
        write_lines(manifest, *lines)
    entry = remote_entry(files=manifest.as_posix())
    assert error_of(tmp_path, {"birds": entry}, "birds") == message


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (remote_entry(files={"in_place": [{"name": "a.zip", "bytes": 1, "sha256": "unpublished"}]}),
         "files.in_place: needs a sha256 of each file; a.zip has none"),
        ({**MNIST, "files": {"in_place": MNIST["files"]}},
         "files.in_place: the format idx needs its files fetched"),
        (remote_entry(in_place=True),
         "in_place: unknown key; write it into files: {in_place: ...}"),
        (remote_entry(files={"in_plaice": []}), "files: expected a list; found {'in_plaice': []}"),
    ],
)  # fmt: skip
def test_files_that_are_read_in_place_need_a_hash_and_a_format_that_can(
    tmp_path: Path, entry: dict[str, Any], expected: str
) -> None:
    assert error_of(tmp_path, {"birds": entry}, "birds") == f"catalog.yaml: birds.{expected}"


def test_the_list_that_fetch_wrote_is_the_list_of_the_entry(tmp_path: Path) -> None:
    files = [{"name": f"{name}.zip", "bytes": 10, "sha256": name * 64} for name in "ab"]
    entry = check_entry("birds", remote_entry(files={"in_place": files}), "catalog.yaml")
    assert isinstance(entry, DownloadEntry)
    expected = (
        f"{tmp_path.as_posix()}/manifest.csv: not the list of files in the catalog; run"
        " `dvc repro fetch`"
    )
    assert find_error(check_manifest, entry, tmp_path) == expected
    write_manifest(tmp_path / "manifest.csv", entry.files[:1])
    assert find_error(check_manifest, entry, tmp_path) == expected
    write_manifest(tmp_path / "manifest.csv", entry.files)
    check_manifest(entry, tmp_path)
    other = check_entry("birds", remote_entry(files={"in_place": files[1:]}), "catalog.yaml")
    assert find_error(check_manifest, other, tmp_path) == expected
    check_manifest(check_entry("birds", remote_entry(files=files), "catalog.yaml"), tmp_path / "x")
