"""The progress bar and the lines that a training prints."""

from typing import Any

import pytest
from support import EASY_PARAMS, build_network, change_params, make_easy_images, train_network

pytestmark = pytest.mark.tf


class RecordingBar:
    """A progress bar, as on a terminal, that records the shown text."""

    disable = False

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0) -> None:
        self.total, self.n = total, done
        self.shown: list[tuple[int, str, str]] = []
        self._description = self._postfix = ""

    def set_description(self, text: str, *, refresh: bool) -> None:
        self._description = text

    def set_postfix_str(self, text: str, *, refresh: bool) -> None:
        self._postfix = text

    def update(self, images: int) -> None:
        self.n += images
        self.shown.append((self.n, self._description, self._postfix))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[RecordingBar]:
    """The bars that a test has shown."""
    from imgpipe.console import training_table as progress

    made: list[RecordingBar] = []

    def make(*arguments: Any, **options: Any) -> RecordingBar:
        made.append(RecordingBar(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(progress, "ProgressBar", make)
    return made


def test_the_bar_advances_within_an_epoch_and_shows_its_metrics(bars: list[RecordingBar]) -> None:
    params = change_params(EASY_PARAMS, training__epochs=2, training__batch_size=16)
    images, labels = make_easy_images(1000)
    model = build_network("mlp", params, shape=(12, 12, 1))
    history = train_network(model, params, images, labels)
    (bar,) = bars
    assert bar.total == 2000
    assert bar.closed
    # 63 steps in an epoch, 50 at once; the last batch has 8 images.
    assert [images for images, _, _ in bar.shown] == [800, 1000, 1800, 2000]
    assert [text for _, text, _ in bar.shown] == ["epoch 1/2"] * 2 + ["epoch 2/2"] * 2
    for epoch, (_, _, text) in zip(history, bar.shown[1::2], strict=True):
        assert text == f"loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.4f}"


def test_the_bar_of_a_resumed_training_starts_after_its_finished_epochs(
    bars: list[RecordingBar],
) -> None:
    from imgpipe.console.training_table import TrainingProgress

    with TrainingProgress(
        epochs=4, examples=95, finished_epochs=2, may_stop_early=False
    ) as progress:
        (bar,) = bars
        assert bar.n == 190
        progress.show(3, 40, 0.5, 0.25)
        progress.show(3, 95, 0.5, 0.25)
    assert [images for images, _, _ in bar.shown] == [230, 285]


def test_each_epoch_is_a_line_with_its_time_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal, there is no bar."""
    from imgpipe.console import training_table as module

    now_s = iter([100.0, 108.5, 109.5, 112.5])
    monkeypatch.setattr(module, "monotonic", lambda: next(now_s))
    with module.TrainingProgress(
        epochs=30, examples=95, finished_epochs=6, may_stop_early=False
    ) as progress:
        progress.show(7, 95, 0.5, 0.25)
        progress.print_epoch(7, (0.5, 0.25, 1.5, 0.125))
        progress.print_epoch(8, (0.25, 0.5, 1.25, 0.25))
        progress.print_epoch(9, (0.25, 0.5, 12345.67891, 0.25))
    captured = capsys.readouterr()
    # Without the first epoch, which is slower than the others: 22 s, then 21 times 2 s.
    assert captured.out == (
        "              training loss  accuracy  validation loss  accuracy      time          left\n"
        "epoch   7/30         0.5000    0.2500           1.5000    0.1250     8.5 s       3.3 min\n"
        "epoch   8/30         0.2500    0.5000           1.2500    0.2500     1.0 s          22 s\n"
        "epoch   9/30         0.2500    0.5000       12345.6789    0.2500     3.0 s          42 s\n"
    )
    assert captured.err == ""


def test_a_training_that_may_stop_early_prints_the_longest_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from imgpipe.console.training_table import TrainingProgress

    with TrainingProgress(
        epochs=9999, examples=95, finished_epochs=0, may_stop_early=True
    ) as progress:
        progress.print_epoch(9998, (0.5, 0.25, 1.5, 0.125))
    header, line = capsys.readouterr().out.splitlines()
    assert header.endswith("  left at most")
    assert len(header) == len(line) <= 100
