"""Photographs, or arrays, through Keras's ImageDataGenerator; print images and seconds.

    python image_data_generator.py plain|augmented FOLDER
    python image_data_generator.py transforms ARRAY.npy

FOLDER holds a folder of images for each class; ARRAY.npy holds images (N, H, W, C). The recipe
`cats_vs_dogs_augmented` has the same transformations. Keras 3 keeps ImageDataGenerator under
`legacy`.
"""

import sys
import time
from typing import Any

import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator

kind, source = sys.argv[1:]
transformations: dict[str, Any] = {
    "rotation_range": 20,
    "width_shift_range": 0.1,
    "height_shift_range": 0.1,
    "zoom_range": 0.1,
    "horizontal_flip": True,
}
if kind == "transforms":
    batches = ImageDataGenerator(**transformations).flow(np.load(source), batch_size=32)
else:
    chosen = transformations if kind == "augmented" else {}
    batches = ImageDataGenerator(rescale=1 / 255, **chosen).flow_from_directory(
        source, target_size=(150, 150), batch_size=32, class_mode="binary"
    )
start = time.perf_counter()
images = 0
for number in range(len(batches)):
    batch = batches[number]
    images += len(batch if kind == "transforms" else batch[1])
print(images, time.perf_counter() - start)
