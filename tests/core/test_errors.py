import errno
import os
import subprocess
import sys

import pytest
from support import SRC

from imgpipe.core.errors import PipelineError, run_script


def fail() -> None:
    raise PipelineError("file: the mistake")


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_pipeline_error_is_one_line_and_a_status() -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(fail)
    assert caught.value.code == "error: file: the mistake"  # Python prints it, with status 1


def test_the_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPE_TRACEBACK", "1")
    with pytest.raises(PipelineError):
        run_script(fail)


def test_an_interrupt_is_one_word() -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(interrupt)
    assert caught.value.code == "interrupted"


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: print(1 // 0))


def test_an_error_of_the_system_is_one_line() -> None:
    def fill_the_disk() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "data/raw/images.zip")

    with pytest.raises(SystemExit) as stopped:
        run_script(fill_the_disk)
    assert stopped.value.code == (
        "error: [Errno 28] No space left on device: 'data/raw/images.zip'"
    )


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
