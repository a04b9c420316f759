"""The task of one shard."""

from typing import Generic, NamedTuple, TypeVar

ContentT = TypeVar("ContentT")
ResultT = TypeVar("ResultT")
"""What a function returns for one task."""


class Task(NamedTuple, Generic[ContentT]):
    """The argument of a function for one shard."""

    content: ContentT
    name: str
    """The name of the shard, for errors."""
    images: int
    """By which the progress bar advances."""
