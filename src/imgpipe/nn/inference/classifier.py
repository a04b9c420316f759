"""A trained model that classifies images for a person."""

from imgpipe.nn.common.runtime import configure_runtime  # first: it silences TensorFlow's start

# isort: split
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.progress import ProgressBar
from imgpipe.core.errors import UnreadableImageError
from imgpipe.nn.common.arithmetic import find_forward
from imgpipe.nn.common.prediction import Predictor
from imgpipe.nn.inference.explanation import activation_maps
from imgpipe.nn.inference.file_prediction import FilePrediction
from imgpipe.nn.inference.loading import load_model, read_signature
from imgpipe.settings.image_spec import ImageSpec

_FILES_AT_ONCE = 512

ReadImage = Callable[[Path, ImageSpec], NDArray[np.uint8]]
"""Returns the image in a file, (H, W, C); raises UnreadableImageError or OSError."""


class Classifier:
    """A model file, loaded; it answers with probabilities and with the evidence for them.

    It computes natively: probabilities differ from the exact ones of the stage `evaluate` by less
    than 1e-5.

    Attributes:
        signature: the images that the model takes, and its classes.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        """Configure TensorFlow and load the model.

        Args:
            path: a model file that `save_model` wrote.
            threads: threads of TensorFlow, and of reading files.

        Raises:
            PipelineError: the file is missing or is not a model of this pipeline.
        """
        configure_runtime("native", native_threads=threads)
        self.signature = read_signature(path)
        self._model = load_model(path)
        self._forward = find_forward("native")
        self._predictor = Predictor(self._model, self._forward)
        self._threads = threads

    def explain(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities (K,) of an image (H, W, C), and its activation map (h, w)."""
        images = image[None]
        maps = activation_maps(self._model, images, self._forward)
        return self._predictor.predict(images)[0], maps[0]

    def classify_files(
        self, files: Sequence[Path], read_image: ReadImage, *, top: int
    ) -> Iterator[FilePrediction]:
        """Yield the likeliest classes of each file, in the order of the files.

        At most 512 images are in memory at once.

        Args:
            files: image files.
            read_image: reads and resizes a file.
            top: the number of classes for each file.
        """
        waiting = iter(files)
        with (
            ProgressBar("predict", len(files), "image") as bar,
            ThreadPoolExecutor(self._threads) as pool,
        ):
            while batch := list(islice(waiting, _FILES_AT_ONCE)):
                read = partial(_read_or_reason, read_image, self.signature.image_spec)
                results = list(pool.map(read, batch))
                images = [result for result in results if not isinstance(result, str)]
                rows = iter(self._predictor.predict(np.stack(images)) if images else ())
                for path, result in zip(batch, results, strict=True):
                    if isinstance(result, str):
                        yield FilePrediction(path.as_posix(), [], error=result)
                    else:
                        yield FilePrediction(path.as_posix(), self._likeliest(next(rows), top))
                bar.update(len(batch))

    def _likeliest(self, probabilities: NDArray[np.float32], top: int) -> list[tuple[str, float]]:
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [(self.signature.classes[label], float(probabilities[label])) for label in order]


def _read_or_reason(
    read_image: ReadImage, image_spec: ImageSpec, path: Path
) -> NDArray[np.uint8] | str:
    try:
        return read_image(path, image_spec)
    except (UnreadableImageError, OSError) as error:
        return str(error)
