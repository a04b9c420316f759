"""What a network sees in some test images, stored for the pictures: kernels and maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.records.npz_file import open_npz, write_npz


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
    write_npz(path, arrays)


def read_views(path: Path) -> Views:
    """Read the archive that `write_views` wrote.

    Raises:
        PipelineError: the file is missing, or is not such an archive.
    """
    with open_npz(path, "views", "evaluate") as arrays:
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
