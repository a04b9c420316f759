"""Images of a dataset on a page: a small picture, and the name of the file."""

import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.paths import REPORT
from imgpipe.datasets.catalog import Entry, LocalEntry

_SIDE_PX = 96  # longest side of a picture; the page would become large


@dataclass(frozen=True)
class NamedImage:
    """An image of a dataset, as a page in `metrics` shows it."""

    png: bytes
    name: str
    """The name of the file."""
    identity: str
    note: str
    """What the page says about the image."""
    link: str | None
    """The address of the file from the page; None if the file is in an archive."""

    @classmethod
    def make(cls, entry: Entry, image: NDArray[np.uint8], identity: str, note: str) -> "NamedImage":
        """Return an image (H, W, C) of the dataset of a catalog's entry."""
        name = PurePosixPath(identity).name
        return cls(_encode_thumbnail(image), name, identity, note, _find_link(entry, identity))


def _encode_thumbnail(image: NDArray[np.uint8]) -> bytes:
    """Return a small PNG of an image (H, W, C)."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((_SIDE_PX, _SIDE_PX))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _find_link(entry: Entry, identity: str) -> str | None:
    """Return the address of an image file of the user's own folder, from a page in `metrics`."""
    if not isinstance(entry, LocalEntry):
        return None
    return "../" * len(REPORT.parent.parts) + quote(identity)
