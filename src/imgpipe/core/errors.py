"""Errors that a person can act on, and how a script reports them."""

import os
import sys
from collections.abc import Callable


class PipelineError(Exception):
    """A problem that the person who runs the pipeline can solve.

    The message is one line: the mistake, its place (file, dotted key or archive member), the
    expected and the found value, and what to do.
    """


class UnreadableImageError(Exception):
    """One image of a dataset cannot be read; the message is the reason.

    It does not stop a stage: the image is skipped, counted, and listed with its reason.
    """


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; print an error that a person can act on as one line, with status 1.

    These are a `PipelineError`, and an error of the system such as a full disk. Set
    `IMGPIPE_TRACEBACK=1` to see the traceback instead.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as `head`, has read enough. Python flushes at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (PipelineError, OSError) as error:
        if os.environ.get("IMGPIPE_TRACEBACK") == "1":
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
