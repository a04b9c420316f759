"""Files that outlive a stage, under `.dvc/tmp` of the repository: checkpoints and features.

They are outside the outputs of the stages, because DVC deletes outputs before it runs a stage. They
are in the repository itself, also if DVC runs the stage in a temporary copy of the repository,
because DVC deletes that copy with the run.
"""

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_FOLDER = Path(".dvc/tmp/imgpipe")
_MAX_AGE_DAYS = 30


def folder_path(kind: str) -> Path | None:
    """Return the folder for files of one kind, which may not exist yet; None outside DVC."""
    repository = Path(os.environ.get("DVC_ROOT", "."))
    return repository / _FOLDER / kind if (repository / ".dvc").is_dir() else None


def entry_path(kind: str, determined_by: Any) -> Path | None:
    """Return the path of a file or folder, which may not exist yet; None outside DVC.

    The name is the hash of all that the content depends on, as values of JSON.
    """
    folder = folder_path(kind)
    return None if folder is None else folder / hash_values(determined_by)


def hash_values(values: Any) -> str:
    """Return 32 hexadecimal digits that identify values of JSON."""
    content = json.dumps(values, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def delete_unused(kind: str) -> None:
    """Delete the files and folders of one kind that were last changed more than 30 days ago."""
    folder = folder_path(kind)
    if folder is None:
        return
    oldest_s = time.time() - _MAX_AGE_DAYS * 24 * 3600
    for entry in folder.glob("*"):
        with suppress(OSError):  # another run may delete it, too
            if entry.stat().st_mtime < oldest_s:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
