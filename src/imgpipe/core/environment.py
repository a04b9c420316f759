"""The IMGPIPE_* environment variables: settings that change no output, such as worker counts."""

import os

from imgpipe.core.errors import PipelineError


def read_whole_number(variable: str, *, least: int) -> int | None:
    """Return the value of an environment variable, or None if the variable is not set.

    Raises:
        PipelineError: the value is no whole number, or less than `least`.
    """
    setting = os.environ.get(variable)
    if setting is None:
        return None
    if not setting.isdecimal() or int(setting) < least:
        raise PipelineError(
            f"{variable}: expected a whole number of {least} or more; found {setting!r}"
        )
    return int(setting)
