"""What a network sees in some test images, stored for the pictures: kernels and maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.records.npz_file import open_npz, write_npz

MOST_IMAGES, MOST_MISTAKES = 6, 3


@dataclass(frozen=True)
class Views:
    """What a network sees in N test images."""

    numbers: NDArray[np.int64]
    """(N,): which test images, counted from 0."""
    images: NDArray[np.uint8]
    """(N, H, W, C)."""
    kernels: NDArray[np.float32]
    """(F, h, w, C): the weights of the first layer."""
    activation_maps: NDArray[np.float32]
    """(N, h, w) in [0, 1]: where the evidence for the predicted class lies."""
    feature_maps: Sequence[tuple[str, NDArray[np.float32]]]
    """The name of some layers, and their maps (h, w, F) of the first of the N images."""
    layers_with_maps: int
    """Number of all layers that have maps."""


def choose_images(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the numbers of the test images to look at, at most six.

    First come correct images: the first one of each class, then the second one of each class, and
    so on, until six images are chosen. Up to three of the six are mistakes; they come last, the
    most confident mistake first.
    """
    right = probabilities.argmax(axis=1) == labels
    wrong = np.flatnonzero(~right)
    most_confident_first = np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")
    mistakes = wrong[most_confident_first][:MOST_MISTAKES]
    correct = np.flatnonzero(right)
    by_class = correct[np.argsort(labels[correct], kind="stable")]
    sorted_labels = labels[by_class]
    turns = np.arange(len(by_class)) - np.searchsorted(sorted_labels, sorted_labels)
    by_turn = by_class[np.argsort(turns, kind="stable")]
    return np.concatenate([by_turn[: MOST_IMAGES - len(mistakes)], mistakes])


def write_views(path: Path, views: Views) -> None:
    """Write the views as an npz archive."""
    arrays: dict[str, Any] = {
        "numbers": views.numbers,
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
            arrays["numbers"],
            arrays["images"],
            arrays["kernels"],
            arrays["activation_maps"],
            [
                (str(name), arrays[f"feature_maps_{number}"])
                for number, name in enumerate(arrays["feature_layers"])
            ],
            int(arrays["layers_with_maps"]),
        )
