"""Train a classifier on a frozen backbone in the style of Keras's guide to transfer learning.

Prints the number of epochs, seconds from the script's first line to the end of the last epoch, and
the validation accuracy after it. The training stops at the first epoch whose validation accuracy is
at least ACCURACY, and at the latest after EPOCHS.

    python transfer_learning.py fit|features FOLDER ACCURACY EPOCHS SEED

With `fit`, the frozen backbone is a part of the network that `fit` trains. With `features`, the
script computes the features of the backbone once. FOLDER holds train.npz and validation.npz:
`images` (N, H, W, 3) uint8, `labels` (N,) of two classes. So the time does not include decoding.
The weights are the same as in the recipe `photographs`. Batch normalization has separate layers, as
in the networks of keras.applications.

Source: https://keras.io/guides/transfer_learning/
"""

import time

begin = time.perf_counter()

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

from imgpipe.nn.networks.efficientnet_lite import list_blocks  # noqa: E402
from imgpipe.nn.transfer.torch_file import read_weights  # noqa: E402
from imgpipe.nn.transfer.weights import find_weight_file  # noqa: E402
from imgpipe.settings.backbones import BACKBONES  # noqa: E402

BACKBONE = BACKBONES["efficientnet_lite0"]
BATCH_SIZE = 32


class Stop(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Stops a training at a validation accuracy."""

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy = accuracy

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Stop if the accuracy is reached."""
        self.model.stop_training = logs["val_accuracy"] >= self.accuracy


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    accuracy, epochs, seed = float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    keras.utils.set_random_seed(seed)
    train, validation = load(folder / "train.npz"), load(folder / "validation.npz")
    shape = train.element_spec[0].shape
    backbone = build_backbone(tuple(shape))
    inputs = keras.Input(shape)
    features = layers.GlobalAveragePooling2D()(backbone(inputs, training=False))
    if kind == "features":
        extractor = keras.Model(inputs, features)
        train, validation = compute(extractor, train), compute(extractor, validation)
        inputs = features = keras.Input(extractor.output_shape[1:])
    outputs = layers.Dense(1)(layers.Dropout(0.2)(features))
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
    )
    history = model.fit(
        train.shuffle(len(train)).batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE),
        validation_data=validation.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE),
        epochs=epochs,
        callbacks=[Stop(accuracy)],
        verbose=0,
    )
    reached = history.history["val_accuracy"]
    print(len(reached), time.perf_counter() - begin, reached[-1])


def load(path: Path) -> Any:
    """Return images and labels as a dataset of TensorFlow."""
    with np.load(path) as arrays:
        return tf.data.Dataset.from_tensor_slices((arrays["images"], arrays["labels"]))


def compute(extractor: Any, dataset: Any) -> Any:
    """Return a dataset of features and labels."""
    features = extractor.predict(dataset.batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE), verbose=0)
    labels = np.array([label for _, label in dataset.as_numpy_iterator()])
    return tf.data.Dataset.from_tensor_slices((features, labels))


def build_backbone(image_shape: tuple[int, ...]) -> Any:
    """Return the frozen network, from images (N, H, W, 3) in [0, 255] to its last maps."""
    weights = read_weights(find_weight_file(BACKBONE))

    def normalize(x: Any, prefix: str) -> Any:
        layer = layers.BatchNormalization(epsilon=1e-3)
        x = layer(x)
        names = ("weight", "bias", "running_mean", "running_var")
        layer.set_weights([weights[f"{prefix}.{name}"] for name in names])
        return x

    def convolve(x: Any, kernel: str, norm: str, stride: int = 1) -> Any:
        values = weights[f"{kernel}.weight"].transpose(2, 3, 1, 0)
        side_px, _, _, filters = values.shape
        layer = layers.Conv2D(filters, side_px, strides=stride, padding="same", use_bias=False)
        x = layer(x)
        layer.set_weights([values])
        return normalize(x, norm)

    def convolve_depthwise(x: Any, kernel: str, norm: str, stride: int) -> Any:
        values = weights[f"{kernel}.weight"].transpose(2, 3, 0, 1)
        layer = layers.DepthwiseConv2D(
            values.shape[0], strides=stride, padding="same", use_bias=False
        )
        x = layer(x)
        layer.set_weights([values])
        return normalize(x, norm)

    inputs = keras.Input(image_shape)
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    x = layers.ReLU(6.0)(convolve(x, "_conv_stem", "_bn0", stride=2))
    for number, block in enumerate(list_blocks(BACKBONE)):
        prefix, shortcut = f"_blocks.{number}", x
        if block.expansion > 1:
            x = layers.ReLU(6.0)(convolve(x, f"{prefix}._expand_conv", f"{prefix}._bn0"))
        x = convolve_depthwise(x, f"{prefix}._depthwise_conv", f"{prefix}._bn1", block.stride)
        x = convolve(layers.ReLU(6.0)(x), f"{prefix}._project_conv", f"{prefix}._bn2")
        if x.shape == shortcut.shape:
            x = layers.Add()([shortcut, x])
    x = layers.ReLU(6.0)(convolve(x, "_conv_head", "_bn1"))
    backbone = keras.Model(inputs, x)
    backbone.trainable = False
    return backbone


if __name__ == "__main__":
    main()
