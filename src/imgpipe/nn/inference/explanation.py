"""What a trained model sees: its first kernels, its feature maps, the evidence for a class."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.nn.common import exact
from imgpipe.nn.common.arithmetic import Forward

MOST_LAYERS = 8
"""Largest number of layers whose feature maps are shown; a deep network has dozens."""


def first_kernels(model: keras.Model) -> NDArray[np.float32]:
    """Return the weights of the first trained layer as F small images, (F, h, w, C) float32.

    For a convolution these are its kernels; for a dense layer the weights of each unit, arranged as
    the image, or as a row if the layer sees one row of pixels at a time.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel: NDArray[np.float32] = np.asarray(layer.kernel)
            return kernel.transpose(3, 0, 1, 2)
        if isinstance(layer, keras.layers.Dense):
            weights = np.asarray(layer.kernel).T
            # As many rows as the layer sees at once: all rows of the image, or one.
            return weights.reshape(len(weights), -1, *model.input_shape[2:])
    raise ValueError("the model has no layer with weights")


def feature_maps(
    model: keras.Model, image: NDArray[np.uint8], forward: Forward
) -> tuple[list[tuple[str, NDArray[np.float32]]], int]:
    """Return the output of ReLU layers that have maps.

    If more than `MOST_LAYERS` layers have maps, layers at equal distances from the first to the
    last are chosen.

    Args:
        model: the network.
        image: (H, W, C).
        forward: computes the network.

    Returns:
        (layer name, (h, w, F) float32) of each chosen layer, and the number of layers that have
        maps. For a network without maps the list is empty.
    """
    mapped = [layer for layer in model.layers if _is_rectified_map(layer)]
    if not mapped:
        return [], 0
    numbers = np.linspace(0, len(mapped) - 1, min(len(mapped), MOST_LAYERS)).round().astype(int)
    chosen = [mapped[number] for number in numbers]
    mapping = keras.Model(model.input, [layer.output for layer in chosen])
    outputs = forward(mapping, tf.constant(image[np.newaxis]), training=False)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    maps = [
        (layer.name, np.asarray(output[0], dtype=np.float32))
        for layer, output in zip(chosen, outputs, strict=True)
    ]
    return maps, len(mapped)


def activation_maps(
    model: keras.Model, images: NDArray[np.uint8], forward: Forward
) -> NDArray[np.float32]:
    """Return the places of the evidence for the predicted class, (N, h, w) float32 in [0, 1].

    `forward` computes the network.

    For a network with maps this is HiResCAM on the last maps (Draelos and Carin 2020,
    arXiv:2011.08891: Grad-CAM that is faithful also before dense layers). For a network without
    maps it is the absolute gradient of the logit of the class with respect to the pixels, its
    maximum over the channels (Simonyan et al. 2014, arXiv:1312.6034). Each map is scaled to a
    maximum of 1; a map without evidence for the class is 0 everywhere.
    """
    mapped = [layer for layer in model.layers if _is_rectified_map(layer)]
    # Without maps, the gradient is taken with respect to the normalized image.
    watched_layer = mapped[-1] if mapped else model.layers[1]
    logits = model.layers[-1].input  # the input of the softmax
    first = keras.Model(model.input, watched_layer.output)
    watched = forward(first, tf.constant(images), training=False)
    rest = keras.Model(watched_layer.output, logits)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(watched)
        strongest = tf.reduce_max(forward(rest, watched, training=False), axis=1)
    gradient = tape.gradient(strongest, watched)  # of the sum over the images
    if mapped:
        # Exact sums are of float32; layers of mixed precision have shorter numbers.
        evidence = tf.cast(gradient * watched, tf.float32)
        maps = tf.nn.relu(exact.sum_along(evidence, [3]))
    else:
        maps = tf.reduce_max(tf.abs(gradient), axis=3)
    result = np.array(tf.cast(maps, tf.float32))
    peak = result.max(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float32] = np.divide(result, peak, out=result, where=peak > 0)
    return scaled


def _is_rectified_map(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.ReLU) and len(layer.output.shape) == 4
