"""What a network sees in some test images, stored for the pictures: kernels and maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_file


@dataclass(frozen=True)
class Views:
    """What a network sees in the first N test images."""

    images: NDArray[np.uint8]
    """(N, H, W, C)."""
    kernels: NDArray[np.float32]
    """(F, h, w, C): the weights of the first layer."""
    activation_maps: NDArray[np.float32]
    """(N, h, w) in [0, 1]: where the evidence for the predicted class lies."""
    feature_maps: Sequence[tuple[str, NDArray[np.float32]]]
    """Of some layers the name and the maps (h, w, F) of the first image; empty without maps."""
    layers_with_maps: int
    """Number of all layers that have maps."""


def write_views(path: Path, views: Views) -> None:
    """Write the views as an npz archive."""
    arrays: dict[str, Any] = {
        "images": views.images,
        "kernels": views.kernels,
        "activation_maps": views.activation_maps,
        "feature_layers": np.array([name for name, _ in views.feature_maps], dtype=np.str_),
        "layers_with_maps": np.array(views.layers_with_maps),
    }
    for number, (_, maps) in enumerate(views.feature_maps):
        arrays[f"feature_maps_{number}"] = maps
    with replace_file(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def read_views(path: Path) -> Views:
    """Read the archive that `write_views` wrote.

    Raises:
        PipelineError: the file is missing, or is not such an archive.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:  # closed on an error, too
            return Views(
                arrays["images"],
                arrays["kernels"],
                arrays["activation_maps"],
                [
                    (str(name), arrays[f"feature_maps_{number}"])
                    for number, name in enumerate(arrays["feature_layers"])
                ],
                int(arrays["layers_with_maps"]),
            )
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None
    except (ValueError, KeyError, OSError, EOFError, BadZipFile):
        raise PipelineError(
            f"{path.as_posix()}: expected an npz archive of views; found another file, or a part;"
            " run `dvc repro evaluate`"
        ) from None
