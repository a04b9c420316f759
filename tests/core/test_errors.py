import errno
import os
import subprocess
import sys

import pytest
from support import SRC

from imgpipe.core.errors import PipelineError, run_script

DISK_IS_FULL = OSError(errno.ENOSPC, "No space left on device", "data/raw/images.zip")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineError("file: the mistake"), "error: file: the mistake"),
        (DISK_IS_FULL, "error: [Errno 28] No space left on device: 'data/raw/images.zip'"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_an_error_is_one_line_and_with_its_traceback_on_request(
    error: BaseException, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_script(fail)
    assert caught.value.code == code  # Python prints it, with status 1
    if isinstance(error, PipelineError):
        monkeypatch.setenv("IMGPIPE_TRACEBACK", "1")
        with pytest.raises(PipelineError):
            run_script(fail)


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: print(1 // 0))


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    code = (
        "from imgpipe.core.errors import run_script\n"
        "run_script(lambda: [print(n) for n in range(200_000)] and None)"
    )
    script = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert script.stdout is not None
    assert script.stderr is not None
    assert script.stdout.readline() == "0\n"
    script.stdout.close()
    assert script.stderr.read() == ""
    script.stderr.close()
    assert script.wait() == 1
