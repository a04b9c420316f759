"""Train TensorFlow's convolutional tutorial network on MNIST in the usual tutorial style.

Prints images per second of `fit`, seconds from its beginning to its end, and the test accuracy.

    python mnist_tutorial.py FOLDER EPOCHS SEED

FOLDER holds MNIST's four archives. As in the recipe `mnist_tutorial_cnn`, a tenth of the training
images is set aside for validation.
"""

import gzip
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

folder, epochs, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
keras.utils.set_random_seed(seed)


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as stream:
        images = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8)
    return images.astype("float32") / 255, labels


train_images, train_labels = load("train")
test_images, test_labels = load("t10k")
model = keras.Sequential(
    [
        layers.Input((28, 28, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
start = time.perf_counter()
model.fit(train_images, train_labels, batch_size=32, epochs=epochs, validation_split=0.1, verbose=0)
seconds = time.perf_counter() - start
_, accuracy = model.evaluate(test_images, test_labels, verbose=0)
trained = epochs * (len(train_images) - len(train_images) // 10)
print(trained / seconds, seconds, accuracy)
