"""Files that outlive a stage, under `.dvc/tmp` of the repository: checkpoints and features.

They are outside the outputs of the stages, because DVC deletes outputs before it runs a stage. They
are in the repository itself, also if DVC runs the stage in a temporary copy of the repository,
because DVC deletes that copy with the run.
"""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

_FOLDER = Path(".dvc/tmp/imgpipe")
_MAX_AGE_DAYS = 30


def find_folder(kind: str) -> Path | None:
    """Return the folder for files of one kind, which may not exist yet; None outside DVC."""
    repository = Path(os.environ.get("DVC_ROOT", "."))
    return repository / _FOLDER / kind if (repository / ".dvc").is_dir() else None


def delete_unused(kind: str) -> None:
    """Delete the files and folders of one kind that were last changed more than 30 days ago."""
    folder = find_folder(kind)
    if folder is None:
        return
    oldest_s = time.time() - _MAX_AGE_DAYS * 24 * 3600
    for entry in folder.glob("*"):
        with suppress(OSError):  # another run may delete it, too
            if entry.stat().st_mtime < oldest_s:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
