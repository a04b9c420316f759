"""Errors that a person can act on, and how a script reports them."""

import os
import sys
from collections.abc import Callable


class PipelineError(Exception):
    """A problem that the person who runs the pipeline can solve.

    The message is one line: what is wrong, where (file, dotted key or archive member), what was
    expected, what was found, and what to do.
    """


class UnreadableImageError(Exception):
    """One image of a dataset cannot be read; the message is the reason.

    It does not stop a stage: the image is skipped, counted, and listed with its reason.
    """


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; print a `PipelineError` as one line and exit with status 1.

    Set `IMGPIPE_TRACEBACK=1` to see the traceback instead.
    """
    try:
        main()
    except PipelineError as error:
        if os.environ.get("IMGPIPE_TRACEBACK") == "1":
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
