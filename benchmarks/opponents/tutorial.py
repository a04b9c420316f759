"""Train a network of TensorFlow's tutorials on MNIST or Fashion-MNIST in the usual tutorial style.

Prints images and seconds of `fit`, seconds from the script's first line to the end of `fit`, and
the test accuracy.

    python tutorial.py 93322|402442 FOLDER EPOCHS SEED

FOLDER holds the dataset's four archives. As in the recipes `mnist_tutorial_cnn` and
`fashion_mnist_cnn`, a tenth of the training images is set aside for validation.
"""

import time

begin = time.perf_counter()

import gzip  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

parameters, folder = int(sys.argv[1]), Path(sys.argv[2])
epochs, seed = int(sys.argv[3]), int(sys.argv[4])
keras.utils.set_random_seed(seed)


def load(part: str) -> tuple[np.ndarray, np.ndarray]:
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as stream:
        images = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8)
    return images.astype("float32") / 255, labels


train_images, train_labels = load("train")
test_images, test_labels = load("t10k")
convolutions = {
    93_322: [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
    ],
    402_442: [
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
    ],
}
model = keras.Sequential(
    [
        layers.Input((28, 28, 1)),
        *convolutions[parameters],
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
)
assert model.count_params() == parameters
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
start = time.perf_counter()
model.fit(train_images, train_labels, batch_size=32, epochs=epochs, validation_split=0.1, verbose=0)
end = time.perf_counter()
_, accuracy = model.evaluate(test_images, test_labels, verbose=0)
trained = epochs * (len(train_images) - len(train_images) // 10)
print(trained, end - start, end - begin, accuracy)
