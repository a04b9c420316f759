"""A long step shows a bar on a terminal, and elsewhere a line every 30 seconds."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from support import ROOT

from imgpipe.console import progress

SCRIPT = """
import sys, time
from imgpipe.console.progress import ProgressBar
with ProgressBar("train", 1000, "image", done=200) as bar:
    for _ in range(4):
        time.sleep(0.15)
        bar.set_postfix_str("loss 0.5", refresh=False)
        bar.update(200)
    bar.write("a line", file=sys.stdout)
"""


def run_on_terminal(script: str) -> str:
    """Run Python with a terminal as its standard output and standard error."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # on Linux: the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0, seen
    return seen.decode()


def test_without_a_terminal_a_short_step_prints_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "a line\n"
    assert result.stderr == ""


def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left() -> None:
    seen = run_on_terminal(SCRIPT)
    for expected in ("train:  40%|", "400/1000", "images/s", "loss 0.5", "a line\r\n"):
        assert expected in seen
    assert seen.endswith("\r")  # the bar is gone


def test_bytes_are_shown_in_megabytes() -> None:
    seen = run_on_terminal(
        "from imgpipe.console.progress import ProgressBar\n"
        "with ProgressBar('digits.csv.gz', 2_000_000, 'B', done=1_500_000) as bar: bar.refresh()"
    )
    assert "digits.csv.gz:  75%|" in seen
    assert "1.50M/2.00M" in seen


@pytest.mark.parametrize(
    ("unit", "line"),
    [
        ("image", "preprocess: 40,000 of 60,000 images, 20 s left\n"),
        ("B", "preprocess: 40.0 kB of 60.0 kB, 20 s left\n"),
    ],
)
def test_without_a_terminal_a_long_step_prints_a_line_every_30_seconds(
    unit: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now_s = iter([0.0, 15.0, 30.0, 45.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(now_s))
    with progress.ProgressBar("preprocess", 60_000, unit, done=10_000) as bar:
        assert bar.disable
        for _ in range(3):
            bar.update(15_000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == line
