"""Share of damaged photographs that are found, and of good ones that are refused by mistake.

Needs DATASET_MIRROR with `cats_and_dogs_small`, and takes three minutes:

    PYTHONPATH=src python benchmarks/damage.py

All 3,000 photographs are read as they are; every tenth one in other codings, and damaged in other
formats; every third one damaged as it is. "Changed pixels": of the damaged files that are read,
the mean share of pixels that differ by more than 32 of 255 from the good file.
"""

import os
import random
import zipfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.settings.image_spec import ImageSpec
from measuring import table

SPEC = ImageSpec(height_px=128, width_px=128, channels=3, fit="stretch", interpolation="bilinear")
HEADER_BYTES = 1_024  # not damaged: a damaged header is another matter

JPEG_CODINGS: dict[str, dict[str, Any]] = {
    "quality 30": {"quality": 30},
    "quality 95, no subsampling": {"quality": 95, "subsampling": 0},
    "own Huffman tables": {"quality": 85, "optimize": True},
    "restart markers": {"quality": 85, "restart_marker_rows": 1},
    "progressive": {"quality": 85, "progressive": True},
}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("PNG", {}),
    "GIF": ("GIF", {}),
    "WebP": ("WEBP", {}),
    "WebP, lossless": ("WEBP", {"lossless": True, "method": 0}),
    "AVIF": ("AVIF", {"speed": 10}),
    "TIFF, LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF, deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF, JPEG": ("TIFF", {"compression": "jpeg"}),
    "TIFF, no compression": ("TIFF", {}),
    "BMP": ("BMP", {}),
}


def _overwrite(content: bytes, place: int, new: bytes) -> bytes:
    return (content[:place] + new + content[place + len(new) :])[: len(content)]


def _close(content: bytes) -> bytes:
    return content + b"\xff\xd9"


def _flip_bit(content: bytes, place: int, generator: random.Random) -> bytes:
    return _overwrite(content, place, bytes([content[place] ^ 1 << generator.randrange(8)]))


# Each takes the file, a random place in it, and a source of random numbers.
Damage = Callable[[bytes, int, random.Random], bytes]
DAMAGES: dict[str, Damage] = {
    "cut": lambda content, place, _: content[:place],
    "cut, with an end marker": lambda content, place, _: _close(content[:place]),
    "zeros from there to the end": lambda content, place, _: content[:place].ljust(
        len(content), b"\0"
    ),
    "the same, with an end marker": lambda content, place, _: _close(
        content[:place].ljust(len(content) - 2, b"\0")
    ),
    "512 zero bytes": lambda content, place, _: _overwrite(content, place, bytes(512)),
    "4,096 zero bytes": lambda content, place, _: _overwrite(content, place, bytes(4096)),
    "64 random bytes": lambda content, place, generator: _overwrite(
        content, place, generator.randbytes(64)
    ),
    "one flipped bit": _flip_bit,
}


def read(content: bytes) -> np.ndarray[Any, Any] | None:
    """Return the pixels of a file; None if it is refused."""
    try:
        return decode_and_resize(open_image(content), SPEC).astype(int)
    except UnreadableImageError:
        return None


def encode(content: bytes, file_format: str, options: dict[str, Any]) -> bytes:
    """Save a JPEG photograph in another format or coding."""
    stream = BytesIO()
    Image.open(BytesIO(content)).convert("RGB").save(stream, file_format, **options)
    return stream.getvalue()


def measure(damage: Damage, contents: Iterable[bytes]) -> tuple[int, int, float]:
    """Return the number of damaged files, how many were found, and the others' changed pixels."""
    generator = random.Random(1)
    count, found, changed = 0, 0, []
    for content in contents:
        place = generator.randrange(HEADER_BYTES, len(content) - 100)
        count += 1
        pixels = read(damage(content, place, generator))
        if pixels is None:
            found += 1
        else:
            expected = read(content)
            assert expected is not None
            changed.append((np.abs(pixels - expected).max(axis=2) > 32).mean())
    return count, found, float(np.mean(changed)) if changed else 0.0


def main() -> None:
    """Print the tables."""
    path = Path(os.environ["DATASET_MIRROR"]) / "cats_and_dogs_small" / "cats_and_dogs_small.zip"
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        photographs = [archive.read(name) for name in names]
    some = photographs[::10]

    refused = {"as they are": [content for content in photographs if read(content) is None]}
    for coding, options in JPEG_CODINGS.items():
        encoded = [encode(content, "JPEG", options) for content in some]
        refused[coding] = [content for content in encoded if read(content) is None]
    rows = [[coding, str(len(found))] for coding, found in refused.items()]
    print(table(["good JPEG files", "refused"], rows))

    larger = [content for content in photographs[::3] if len(content) > 8_000]
    rows = []
    for name, damage in DAMAGES.items():
        count, found, changed = measure(damage, larger)
        rows.append([name, str(count), f"{found / count:.3f}", f"{changed:.3f}"])
    print(table(["damage of JPEG files", "files", "found", "changed pixels"], rows))

    kinds = {name: damage for name, damage in DAMAGES.items() if "marker" not in name}
    rows = []
    for title, (file_format, options) in FORMATS.items():
        encoded = [encode(content, file_format, options) for content in some[::3]]
        found_of_kind = [measure(damage, encoded) for damage in kinds.values()]
        rows.append([title, *(f"{found / count:.2f}" for count, found, _ in found_of_kind)])
    print(table(["found, 100 files each", *kinds], rows))


if __name__ == "__main__":
    main()
