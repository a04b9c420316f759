"""Train the network of recipes/cats_vs_dogs_augmented.yaml in the usual tutorial style.

Prints the test accuracy.

    python cats_vs_dogs.py FOLDER SEED

FOLDER holds train/{cats,dogs} and validation/{cats,dogs}. As in the recipe, the images of the
folder `validation` are the test split, and a tenth of the folder `train` is set aside for
validation. `flow_from_directory` of Keras's ImageDataGenerator, which Keras 3 keeps under `legacy`,
reads the images.
"""

import sys

import keras
from keras import layers
from keras.src.legacy.preprocessing.image import ImageDataGenerator

folder, seed = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(seed)
shared = {"target_size": (150, 150), "batch_size": 32, "class_mode": "binary"}
train = ImageDataGenerator(
    rescale=1 / 255,
    rotation_range=20,
    width_shift_range=0.1,
    height_shift_range=0.1,
    zoom_range=0.1,
    horizontal_flip=True,
    validation_split=0.1,
).flow_from_directory(f"{folder}/train", subset="training", seed=seed, **shared)
validation = ImageDataGenerator(rescale=1 / 255, validation_split=0.1).flow_from_directory(
    f"{folder}/train", subset="validation", shuffle=False, **shared
)
test = ImageDataGenerator(rescale=1 / 255).flow_from_directory(
    f"{folder}/validation", shuffle=False, **shared
)
model = keras.Sequential(
    [
        layers.Input((150, 150, 3)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(128, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile(
    optimizer=keras.optimizers.Adam(1e-4), loss="binary_crossentropy", metrics=["accuracy"]
)
model.fit(train, validation_data=validation, epochs=30, verbose=2)
loss, accuracy = model.evaluate(test, verbose=0)
print(f"{model.count_params()} parameters, test accuracy {accuracy:.4f}, loss {loss:.4f}")
