import pytest

from imgpipe.core.errors import PipelineError, run_script


def fail() -> None:
    raise PipelineError("file: what is wrong")


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_pipeline_error_is_one_line_and_a_status() -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(fail)
    assert caught.value.code == "error: file: what is wrong"  # Python prints it, with status 1


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
