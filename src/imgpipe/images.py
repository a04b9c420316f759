"""Images as arrays: one size and one number of channels for all."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def conform(
    image: NDArray[np.uint8], shape: tuple[int, int, int], interpolation: str
) -> NDArray[np.uint8]:
    """Return `image` (H, W, 1 or 3) stretched to `shape` (H, W, C), uint8 in [0, 255].

    Colour becomes grey by the weights of ITU-R 601-2 (Pillow's mode L), grey becomes colour by
    repetition. When shrinking, all interpolations but "nearest" average over the covered pixels,
    so that fine patterns do not alias.
    """
    if image.shape == shape:
        return image
    height_px, width_px, channels = shape
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (width_px, height_px):
        picture = picture.resize((width_px, height_px), _RESAMPLING[interpolation])
    return np.asarray(picture, dtype=np.uint8).reshape(shape)
