"""Small pictures of the images that the report about the data shows, as JPEG files."""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.decoding import decode_and_resize
from imgpipe.preprocessing.image_facts import prefetch_images
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.settings.image_spec import ImageSpec

_SHAPE = ImageSpec(height_px=128, width_px=128, channels=3, fit="pad", interpolation="bilinear")
_QUALITY = 85


def draw_thumbnails(dataset: RawDataset, indices: NDArray[np.int64]) -> Mapping[str, bytes]:
    """Return a small picture of each image, as the content of a JPEG file, by its identity."""
    thumbnails = {}
    for index, _, identity in prefetch_images(dataset, indices):
        try:
            image = decode_and_resize(dataset.read(index), _SHAPE)
        except UnreadableImageError:  # only at this size, if a JPEG is decoded larger for it
            continue
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=_QUALITY)
        thumbnails[identity] = stream.getvalue()
    return thumbnails
