"""Networks, their data, training, the model file and inference: everything on TensorFlow."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT

from imgpipe.core.errors import PipelineError
from imgpipe.records.info import AugmentedInfo, RecordsInfo, Shard, SplitInfo, copy_folder
from imgpipe.records.normalization import Normalization
from imgpipe.records.shards import write_shard
from imgpipe.settings.image_spec import ImageSpec
from imgpipe.settings.params import Params, load_params
from imgpipe.settings.train import Train

pytestmark = pytest.mark.tf

PARAMS = load_params(ROOT / "params.yaml")
RESCALE = Normalization(method="rescale", scale=[1 / 255], offset=[0.0])
FRAMING = ImageSpec(height_px=12, width_px=12, channels=1, fit="crop", interpolation="lanczos")
GENERATOR = np.random.default_rng(0)


def with_changes(params: Params = PARAMS, **changes: Any) -> Params:
    """Return the parameters with dotted keys (`train__epochs=2`) changed, and checked again."""
    value = params.model_dump()
    for dotted, leaf in changes.items():
        section = value
        *path, last = dotted.split("__")
        for key in path:
            section = section[key]
        section[last] = leaf
    return Params.model_validate(value)


def save(model: Any, path: Path) -> None:
    from imgpipe.nn.common.model_signature import ModelSignature
    from imgpipe.nn.training.saved_model import save_model

    save_model(model, ModelSignature(dataset="easy", classes=["a", "b"], image_spec=FRAMING), path)


def build(
    name: str,
    params: Params = PARAMS,
    *,
    shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    normalization: Normalization = RESCALE,
) -> Any:
    from imgpipe.nn.training.architectures import build_model

    return build_model(
        name, params.architectures, image_shape=shape, classes=classes, normalization=normalization
    )


def easy_images(count: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright block whose place tells the class; the same at every call."""
    labels = np.arange(count) % classes
    images = np.random.default_rng(1).integers(0, 100, (count, 12, 12, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 1 + 6 * (label // 5), 2 * (label % 5)
        image[row : row + 4, column : column + 2] = 255
    return images, labels.astype(np.int64)


def in_one_variant(images: np.ndarray) -> np.ndarray:
    """The numbers of the images, as `TrainingBatches` takes them."""
    return np.arange(len(images))[None]


def train_on(model: Any, images: np.ndarray, labels: np.ndarray, settings: Train) -> list[Any]:
    """Train a compiled model on images without copies, which it is validated on too."""
    from imgpipe.nn.training.loop import train_model

    validation = images, labels
    return train_model(
        model, images, in_one_variant(images), labels, validation, settings, lambda epochs: None
    )


@pytest.fixture(params=["raw", "png"])
def small_records(
    tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[Path, RecordsInfo, Path, AugmentedInfo]:
    """A training split of 25 images in two shards, and two augmented copies."""
    images, labels = easy_images(25)
    encoding = request.param
    records, augmented = tmp_path / "records", tmp_path / "augmented"
    shards = []
    for number, part in enumerate((slice(0, 15), slice(15, 25))):
        shards.append(Shard(file=f"train-{number}.tfrecord", examples=len(labels[part])))
        for copy in range(3):
            folder = records if copy == 0 else augmented / copy_folder(copy)
            folder.mkdir(parents=True, exist_ok=True)
            rows = zip(images[part] // (copy + 1), labels[part].tolist(), strict=True)
            examples = ((image, label, f"#{label}") for image, label in rows)
            write_shard(folder / shards[-1].file, examples, encoding)
    split = SplitInfo(examples=25, per_class={}, shards=shards)
    info = RecordsInfo(
        dataset="easy",
        classes=[str(label) for label in range(10)],
        image_spec=FRAMING,
        normalization=RESCALE,
        record_encoding=encoding,
        record_fields={},
        splits={"train": split},
    )
    return records, info, augmented, AugmentedInfo(copies=2, record_fields={}, shards=shards)


@pytest.mark.parametrize("in_memory", [True, False])
def test_variants_are_the_records(
    small_records: tuple[Path, RecordsInfo, Path, AugmentedInfo], in_memory: bool
) -> None:
    from imgpipe.nn.training.training_set import name_split, name_variants

    records, info, _, _ = small_records
    variants = name_variants(*small_records)
    assert variants.size_bytes == 3 * 25 * 12 * 12
    found, labels = variants.open(in_memory=in_memory)
    assert isinstance(found, np.ndarray) == in_memory
    assert found.shape == (75, 12, 12, 1)
    images, expected = easy_images(25)
    assert labels.tolist() == 3 * expected.tolist()
    for copy in range(3):
        assert (found[copy * 25 + np.arange(25)] == images // (copy + 1)).all()
    assert (found[np.array([60, 3, 3, 26])] == np.stack(
        [images[10] // 3, images[3], images[3], images[1] // 2]
    )).all()  # fmt: skip
    originals, labels = name_split(records, info, "train").open(in_memory=in_memory)
    assert (originals[np.arange(25)] == images).all()
    assert labels.tolist() == expected.tolist()


def test_images_in_more_files_than_may_be_open_are_found(
    small_records: tuple[Path, RecordsInfo, Path, AugmentedInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgpipe.nn.training.training_set import name_variants

    monkeypatch.setattr(records, "_MOST_OPEN_FILES", 2)
    images, _ = easy_images(25)
    found, _ = name_variants(*small_records).open(in_memory=False)
    for numbers in np.random.default_rng(0).integers(75, size=(20, 8)):
        expected = images[numbers % 25] // (numbers // 25 + 1)[:, None, None, None]
        assert (found[numbers] == expected).all()


def test_a_digest_tells_of_every_byte_and_of_the_order(
    small_records: tuple[Path, RecordsInfo, Path, AugmentedInfo],
) -> None:
    from imgpipe.nn.training.training_set import Records, name_variants

    records, info, augmented, augmented_info = small_records
    digest = name_variants(*small_records).digest()
    assert name_variants(*small_records).digest() == digest
    shards = augmented_info.shards
    folders = [(augmented / copy_folder(copy), shards) for copy in (2, 1)]
    assert Records(info, [(records, shards), *folders]).digest() != digest
    path = augmented / copy_folder(2) / shards[1].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert name_variants(*small_records).digest() != digest


def test_which_images_are_better_in_memory(
    small_records: tuple[Path, RecordsInfo, Path, AugmentedInfo],
) -> None:
    from imgpipe.nn.training.training_set import is_better_in_memory

    _, info, _, _ = small_records
    large = info.model_copy(
        update={"image_spec": FRAMING.model_copy(update={"height_px": 128, "width_px": 128})}
    )
    assert is_better_in_memory(info)
    assert is_better_in_memory(large) == (info.record_encoding == "png")


def test_images_may_take_half_of_the_memory_or_what_a_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.delenv("IMGPIPE_MEMORY_MIB", raising=False)
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit_file = tmp_path / "memory.max"
    monkeypatch.setattr(dataset, "_CONTAINER_LIMIT_FILE", limit_file)
    for content, largest in ((None, machine_bytes // 2), ("max", machine_bytes // 2), ("90", 45)):
        if content:
            limit_file.write_text(f"{content}\n")
        assert dataset.fits_in_memory(largest)
        assert not dataset.fits_in_memory(largest + 1)
    monkeypatch.setenv("IMGPIPE_MEMORY_MIB", "3")
    assert dataset.fits_in_memory(3 << 20)
    assert not dataset.fits_in_memory((3 << 20) + 1)
    monkeypatch.setenv("IMGPIPE_MEMORY_MIB", "much")
    with pytest.raises(PipelineError, match="IMGPIPE_MEMORY_MIB: expected a whole number"):
        dataset.fits_in_memory(1)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_damaged_shard_is_named(
    small_records: tuple[Path, RecordsInfo, Path, AugmentedInfo], in_memory: bool
) -> None:
    from imgpipe.nn.training.training_set import name_split

    records, info, _, _ = small_records
    split = name_split(records, info, "train")
    path = records / info.splits["train"].shards[1].file
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"train-1\.tfrecord: record \d+: damaged (content|length)$"
    ):
        split.open(in_memory=in_memory)
    shutil.copy(records / info.splits["train"].shards[0].file, path)
    with pytest.raises(
        PipelineError, match=r"train-1\.tfrecord: info\.json says 10 examples; found 15"
    ):
        split.open(in_memory=in_memory)
    path.write_bytes(b"")
    with pytest.raises(
        PipelineError, match=r"train-1\.tfrecord: info\.json says 10 examples; found 0"
    ):
        split.open(in_memory=in_memory)


def test_a_bootstrap_draws_as_many_examples_with_replacement() -> None:
    from imgpipe.nn.training.training_set import draw_bootstrap

    drawn = draw_bootstrap(250, seed=3)
    assert drawn.shape == (250,)
    assert 0 <= drawn.min() <= drawn.max() < 250
    assert 0.55 < len(set(drawn.tolist())) / 250 < 0.71  # 1 - 1/e of them
    assert (draw_bootstrap(250, seed=3) == drawn).all()
    assert (draw_bootstrap(250, seed=4) != drawn).any()


def batches_of(numbers: np.ndarray, seed: int = 3) -> Any:
    """Batches of images whose only pixel tells their number."""
    from imgpipe.nn.training.training_set import TrainingBatches

    images = np.arange(numbers.max() + 1, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(numbers.shape[1])
    return TrainingBatches(images, numbers, labels, batch_size=8, seed=seed)


def epoch_of(batches: Any, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the images of an epoch, and the examples that they belong to."""
    taken = list(batches.of_epoch(epoch))
    assert [len(labels) for _, labels in taken] == [8, 8, 8, 1]
    images, order = (np.concatenate(column) for column in zip(*taken, strict=True))
    return images[:, 0, 0, 0].astype(int), order


def test_an_epoch_shows_every_image_once_and_v_epochs_show_every_variant() -> None:
    batches = batches_of(np.arange(50).reshape(2, 25))
    seen = []
    for epoch in range(2):
        numbers, order = epoch_of(batches, epoch)
        assert sorted(order) == list(range(25))
        assert (numbers % 25 == order).all()
        assert len(set(numbers // 25)) == 2  # originals and copies are mixed in every epoch
        seen += numbers.tolist()
    assert sorted(seen) == list(range(50))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    batches = batches_of(np.arange(25)[None])
    first = epoch_of(batches, 4)[1]
    assert (first != epoch_of(batches, 5)[1]).any()
    assert (first == epoch_of(batches, 4)[1]).all()
    assert (first == epoch_of(batches_of(np.arange(25)[None]), 4)[1]).all()
    assert (first != epoch_of(batches_of(np.arange(25)[None], seed=9), 4)[1]).any()


def test_examples_drawn_twice_keep_their_variants() -> None:
    drawn = np.array([7] * 20 + [3] * 5)
    batches = batches_of(np.arange(50).reshape(2, 25)[:, drawn])
    for epoch in range(2):
        numbers, order = epoch_of(batches, epoch)
        assert (numbers == drawn[order] + 25 * ((epoch + order) % 2)).all()


@pytest.mark.parametrize("bytes_at_once", [1, 16, 24])
def test_batches_are_the_same_however_many_are_taken_at_once(
    bytes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:

    expected = epoch_of(batches_of(np.arange(50).reshape(2, 25)), 1)  # all of them at once
    monkeypatch.setattr(dataset, "_BYTES_AT_ONCE", bytes_at_once)
    found = epoch_of(batches_of(np.arange(50).reshape(2, 25)), 1)
    assert np.array_equal(found, expected)


def test_batches_tell_how_many_they_are_and_leave_nothing_to_tune() -> None:
    """A tuner would keep each epoch from ending for up to as long as it takes."""
    from imgpipe.nn.common.batches import ordered_batches

    images, labels = easy_images(25)
    in_epochs = batches_of(np.arange(25)[None]).of_epoch(0)
    in_order = ordered_batches(images, labels)
    assert (int(in_epochs.cardinality()), int(in_order.cardinality())) == (4, 1)
    for batches in (in_epochs, in_order):
        assert batches.options().autotune.enabled is False


RECIPES: dict[str, tuple[tuple[int, int, int], int, int]] = {
    "fashion_mnist_dense": ((28, 28, 1), 10, 29_898),
    "fashion_mnist_cnn": ((28, 28, 1), 10, 402_442),
    "mnist_mlp": ((28, 28, 1), 10, 407_050),
    "mnist_cnn": ((28, 28, 1), 10, 1_199_882),
    "mnist_tutorial_cnn": ((28, 28, 1), 10, 93_322),
    "cats_vs_dogs": ((150, 150, 3), 2, 130_241),
    "cats_vs_dogs_augmented": ((150, 150, 3), 2, 130_241),
    "photographs": ((128, 128, 3), 2, 248_177),
    "flowers": ((128, 128, 3), 5, 246_773),
}


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_network_of_each_recipe_has_its_number_of_parameters(recipe: Path) -> None:
    params = load_params(recipe)
    shape, classes, parameters = RECIPES[recipe.stem]
    assert params.preprocess.image_shape == shape
    model = build(params.train.architecture, params, shape=shape, classes=classes)
    assert model.count_params() == parameters
    assert f"({parameters:,} parameters" in recipe.read_text().replace("\n# ", " ")


def test_the_tutorial_network_up_to_its_last_convolution() -> None:
    model = build("cnn", load_params(ROOT / "recipes" / "mnist_tutorial_cnn.yaml"))
    convolutions = [layer for layer in model.layers if layer.name.startswith("conv_")]
    assert sum(layer.count_params() for layer in convolutions) == 55_744


def test_the_layers_of_the_dense_network_on_rows() -> None:
    """28 x 28 -> 128 for each row -> 64 for each row -> flat -> 10."""
    model = build("mlp", load_params(ROOT / "recipes" / "fashion_mnist_dense.yaml"))
    assert [tuple(layer.output.shape[1:]) for layer in model.layers[2:]] == [
        (28, 28), (28, 128), (28, 64), (28 * 64,), (10,), (10,)
    ]  # fmt: skip


def test_the_layers_of_the_convolutional_network_with_dropout() -> None:
    """Two convolutions, pooling, dropout 0.25, 128 dense units, dropout 0.5, the output."""
    model = build("cnn", load_params(ROOT / "recipes" / "mnist_cnn.yaml"))
    assert [(layer.name, getattr(layer, "rate", None)) for layer in model.layers[2:]] == [
        ("conv_1", None), ("relu_1", None), ("conv_2", None), ("pool_2", None), ("relu_2", None),
        ("flatten", None), ("conv_dropout", 0.25), ("dense_1", None), ("dense_dropout_1", 0.5),
        ("logits", None), ("probabilities", None),
    ]  # fmt: skip


def test_the_number_of_parameters_of_a_residual_net() -> None:
    params = with_changes(architectures__resnet__filters=[4, 8])
    # Convolutions without bias, four values for each normalised channel.
    first = 9 * 4 + 16
    stage_1 = 2 * (9 * 4 * 4 + 16)
    stage_2 = (9 * 4 * 8 + 32) + (9 * 8 * 8 + 32) + (4 * 8 + 32)  # the last is its shortcut
    assert build("resnet", params).count_params() == first + stage_1 + stage_2 + 8 * 10 + 10


def test_two_classes_have_one_output_unit() -> None:
    model = build("cnn", classes=2)
    assert model.output_shape == (None, 1)
    assert model.layers[-1].activation.__name__ == "sigmoid"
    assert build("cnn", classes=3).layers[-1].activation.__name__ == "softmax"


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("pool", ["max", "average", "min"])
def test_pooling_is_what_it_says(pool: str, batch_norm: bool) -> None:
    """Against NumPy, on the rectified output of the convolution, as the textbooks order them."""
    from imgpipe.nn.common.runtime import keras

    params = with_changes(
        architectures__cnn__filters=[5],
        architectures__cnn__pool_px=[2],
        architectures__cnn__pool=pool,
        architectures__cnn__batch_norm=batch_norm,
    )
    keras.utils.set_random_seed(1)
    model = build("cnn", params, shape=(10, 8, 3))
    images = GENERATOR.integers(0, 256, (6, 10, 8, 3), dtype=np.uint8)

    def values(layer: str) -> np.ndarray:
        return np.asarray(keras.Model(model.input, model.get_layer(layer).output)(images))

    rectified = np.maximum(values("conv_1"), 0)
    if batch_norm:  # untrained, it divides by the root of 1 + epsilon
        rectified = rectified / np.sqrt(1 + model.get_layer("norm_1").epsilon)
    windows = rectified.reshape(6, 4, 2, 3, 2, 5)
    expected = {
        "max": windows.max(axis=(2, 4)),
        "average": windows.mean(axis=(2, 4)),
        "min": windows.min(axis=(2, 4)),
    }[pool]
    found = values("pool_1" if pool == "average" else "relu_1")
    assert found == pytest.approx(expected, abs=1e-5)
    assert found.max() > 0


@pytest.mark.parametrize("kind", ["average", "max"])
def test_global_pooling_leaves_one_value_of_each_map(kind: str) -> None:
    from imgpipe.nn.common.runtime import keras

    model = build("cnn", with_changes(architectures__cnn__global_pool=kind))
    images = GENERATOR.integers(0, 256, (6, 28, 28, 1), dtype=np.uint8)
    maps, pooled = (
        np.asarray(keras.Model(model.input, model.get_layer(name).output)(images))
        for name in ("relu_3", "global_pool")
    )
    assert pooled.shape == (6, 64)
    expected = {"average": maps.mean(axis=(1, 2)), "max": maps.max(axis=(1, 2))}[kind]
    assert pooled == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pool", ["average", "min"])
@pytest.mark.parametrize("kind", ["none", "average", "max"])
def test_every_pooling_is_saved_and_explained(pool: str, kind: str, tmp_path: Path) -> None:
    from imgpipe.nn.inference.explanation import activation_maps, feature_maps
    from imgpipe.nn.inference.loading import load_model
    from imgpipe.nn.inference.prediction import predict_probabilities

    params = with_changes(architectures__cnn__pool=pool, architectures__cnn__global_pool=kind)
    model = build("cnn", params)
    save(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    images = GENERATOR.integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    assert (predict_probabilities(loaded, images) == predict_probabilities(model, images)).all()
    assert len(feature_maps(loaded, images)) == 3
    assert activation_maps(loaded, images).shape[0] == 4


def test_the_unit_is_the_probability_of_the_second_class() -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities

    model = build("mlp", classes=2)
    images = GENERATOR.integers(0, 256, (7, 28, 28, 1), dtype=np.uint8)
    probabilities = predict_probabilities(model, images)
    assert probabilities.shape == (7, 2)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(7))
    assert probabilities[:, 1] == pytest.approx(np.asarray(model(images))[:, 0], abs=1e-6)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 33, 3)])
def test_networks_take_pixels_and_give_probabilities(
    name: str, shape: tuple[int, int, int]
) -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities

    normalization = Normalization(
        method="standardize", scale=[0.1] * shape[2], offset=[-1.0] * shape[2]
    )
    model = build(name, shape=shape, normalization=normalization)
    images = GENERATOR.integers(0, 256, (7, *shape), dtype=np.uint8)
    probabilities = predict_probabilities(model, images)
    assert probabilities.shape == (7, 10)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(7), abs=1e-6)


def test_the_first_layer_normalises_each_channel() -> None:
    from imgpipe.nn.common.runtime import keras

    normalization = Normalization(
        method="standardize", scale=[0.1, 0.2, 0.3], offset=[-1.0, 0.0, 2.0]
    )
    model = build("mlp", shape=(4, 4, 3), normalization=normalization)
    images = GENERATOR.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    inner = keras.Model(model.input, model.get_layer("normalization").output)
    expected = images * np.array(normalization.scale) + np.array(normalization.offset)
    assert np.asarray(inner(images)) == pytest.approx(expected, abs=1e-4)


def test_images_too_small_for_the_network_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"architectures\.cnn: .* 6 x 6"):
        build("cnn", shape=(6, 6, 1))


def test_batch_normalisation_and_dropout_are_built_as_asked() -> None:
    from imgpipe.nn.common.runtime import keras

    def kinds(**changes: Any) -> list[type]:
        return [type(layer) for layer in build("cnn", with_changes(**changes)).layers]

    plain = kinds(
        architectures__cnn__conv_dropout_frac=0.0, architectures__cnn__dense_dropout_frac=0.0
    )
    assert keras.layers.Dropout not in plain
    assert keras.layers.BatchNormalization not in plain
    normed = kinds(architectures__cnn__batch_norm=True)
    assert normed.count(keras.layers.BatchNormalization) == 3
    assert normed.count(keras.layers.Dropout) == 2


def train(
    params: Params,
    name: str = "cnn",
    count: int = 200,
    *,
    classes: int = 10,
    misleading: bool = False,
) -> tuple[Any, list[Any]]:
    """Train on easy images from a fixed seed and validate on them; return model and history.

    With `misleading` labels, validation gets worse as training gets better.
    """
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.training.loop import compile_model, train_model

    keras.utils.set_random_seed(params.train.seed)
    images, labels = easy_images(count, classes)
    model = build(name, params, shape=(12, 12, 1), classes=classes)
    compile_model(model, params.train, examples=count)
    validation = images, (labels + 1) % 10 if misleading else labels
    seen: list[Any] = []
    history = train_model(
        model, images, in_one_variant(images), labels, validation, params.train,
        lambda epochs: seen.append(list(epochs)),
    )  # fmt: skip
    assert seen == [history[:number] for number in range(1, len(history) + 1)]
    return model, history


EASY = with_changes(
    architectures__cnn__filters=[8],
    architectures__cnn__pool_px=[2],
    architectures__cnn__conv_dropout_frac=0.0,
    architectures__cnn__dense_dropout_frac=0.0,
    train__epochs=4,
    train__batch_size=16,
    train__learning_rate=0.01,
)


def test_training_learns_and_scores_are_recorded() -> None:
    _, history = train(EASY)
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4]
    assert history[-1].validation_accuracy > 0.95
    assert history[-1].loss < history[0].loss
    rates = [epoch.learning_rate for epoch in history]
    assert rates[0] == pytest.approx(0.01)
    assert rates == sorted(rates, reverse=True)  # cosine


@pytest.mark.parametrize(
    ("schedule", "second"), [("constant", 0.01), ("exponential", 0.01 * 0.01**0.5)]
)
def test_learning_rate_schedules(schedule: str, second: float) -> None:
    _, history = train(with_changes(EASY, train__learning_rate_schedule=schedule, train__epochs=2))
    assert history[1].learning_rate == pytest.approx(second, rel=1e-4)


def test_two_classes_are_learnt_by_binary_cross_entropy() -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities

    model, history = train(EASY, classes=2)
    assert history[-1].validation_accuracy > 0.95
    images, labels = easy_images(200, 2)
    probabilities = predict_probabilities(model, images)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95
    best = min(epoch.validation_loss for epoch in history)
    expected = -np.log(probabilities[np.arange(200), labels]).mean()
    assert best == pytest.approx(expected, rel=1e-3)


def test_one_hot_labels_train_as_sparse_ones_do() -> None:
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.training.loop import compile_model, encode_labels

    labels = np.array([2, 0, 1])
    losses, encoded = {}, {}
    for encoding in ("sparse", "one_hot"):
        params = with_changes(EASY, train__label_encoding=encoding)
        model, history = train(params)
        losses[encoding] = [epoch.loss for epoch in history]
        compile_model(model, params.train, examples=3)
        encoded[encoding] = np.asarray(encode_labels(model, labels, params.train)).tolist()
        assert isinstance(
            model.loss,
            {
                "sparse": keras.losses.SparseCategoricalCrossentropy,
                "one_hot": keras.losses.CategoricalCrossentropy,
            }[encoding],
        )
    assert encoded["sparse"] == labels.tolist()
    assert encoded["one_hot"] == np.eye(10)[labels].tolist()
    assert losses["one_hot"] == pytest.approx(losses["sparse"], rel=1e-3)


@pytest.mark.parametrize("classes", [2, 10])
def test_smoothed_labels_of_any_number_of_classes(classes: int) -> None:
    _, history = train(with_changes(EASY, train__label_smoothing=0.2), classes=classes)
    target = 0.8 + 0.2 / classes
    assert history[-1].validation_loss == pytest.approx(-np.log(target), abs=0.1)


def test_the_model_keeps_the_weights_of_the_best_epoch() -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities
    from imgpipe.nn.training.loop import best_epoch

    model, history = train(EASY, misleading=True)
    best = best_epoch(history)
    assert best.validation_loss < history[-1].validation_loss
    images, labels = easy_images(200)
    probabilities = predict_probabilities(model, images)
    loss = -np.log(np.maximum(probabilities[range(200), (labels + 1) % 10], 1e-7)).mean()
    assert loss == pytest.approx(best.validation_loss, rel=1e-3)


def test_early_stopping_waits_for_its_patience() -> None:
    params = with_changes(EASY, train__epochs=9, train__early_stopping_patience_epochs=2)
    _, history = train(params, misleading=True)
    best = min(range(len(history)), key=lambda epoch: history[epoch].validation_loss)
    assert len(history) == best + 3 < 9
    params = with_changes(params, train__early_stopping_patience_epochs=0)
    assert len(train(params, misleading=True)[1]) == 9


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    _, history = train(with_changes(EASY, train__optimizer=optimizer, train__epochs=2))
    assert history[1].loss < history[0].loss


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_answers_in_float32(precision: str) -> None:
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.inference.prediction import predict_probabilities

    keras.config.set_dtype_policy(precision)
    try:
        model, history = train(EASY)
        assert model.layers[2].compute_dtype == precision.removeprefix("mixed_")
    finally:
        keras.config.set_dtype_policy("float32")
    assert history[-1].validation_accuracy > 0.9
    probabilities = predict_probabilities(model, easy_images(5)[0])
    assert probabilities.dtype == np.float32


def test_label_smoothing_changes_the_aim_but_not_the_scale_of_the_history() -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities

    images, _ = easy_images(50)
    confidence = {}
    for smoothing in (0.0, 0.5):
        model, history = train(with_changes(EASY, train__label_smoothing=smoothing))
        confidence[smoothing] = predict_probabilities(model, images).max(axis=1).mean()
    assert confidence[0.5] < 0.65 < 0.9 < confidence[0.0]
    # At its best, a target of 0.55 for the true class costs -ln(0.55) in plain cross-entropy.
    assert history[-1].validation_loss == pytest.approx(-np.log(0.55), abs=0.1)


@pytest.mark.parametrize(("l1", "l2"), [(0.01, 0.0), (0.0, 0.02), (0.01, 0.02)])
@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet"])
def test_penalties_are_those_of_the_kernels(name: str, l1: float, l2: float) -> None:
    from imgpipe.nn.training.loop import compile_model

    params = with_changes(train__l1_penalty=l1, train__l2_penalty=l2)
    model = build(name, params)
    compile_model(model, params.train, examples=100)
    kernels = [
        np.asarray(weights)
        for weights in model.trainable_variables
        if weights.name not in ("bias", "gamma", "beta")
    ]
    assert len(kernels) > 2
    expected = sum(l1 * np.abs(kernel).sum() + l2 * (kernel**2).sum() for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_penalties_shrink_the_kernels_and_stay_out_of_the_history(penalty: str) -> None:
    size, histories = {}, {}
    for weight in (0.0, 0.01):
        model, histories[weight] = train(
            with_changes(EASY, **{f"train__{penalty}_penalty": weight})
        )
        kernel = np.asarray(model.get_layer("dense_1").kernel)
        size[weight] = {"l1": np.abs(kernel).sum(), "l2": (kernel**2).sum()}[penalty]
        if penalty == "l1" and weight:
            assert (np.abs(kernel) < 1e-3).mean() > 0.5  # l1 makes kernels sparse
    assert size[0.01] < 0.5 * size[0.0]
    # Before the first step the penalty alone would be above 3; the cross-entropy is about ln(10).
    assert histories[0.01][0].loss < 2.5


def test_balanced_classes_weigh_the_same() -> None:
    from imgpipe.nn.training.loop import balance_classes

    labels = np.array([0] * 90 + [2] * 10)
    weights = balance_classes(labels)
    assert weights == {0: pytest.approx(100 / 180), 2: pytest.approx(5.0)}
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)


@pytest.mark.parametrize("encoding", ["sparse", "one_hot"])
@pytest.mark.parametrize("classes", [2, 3])
def test_class_weights_help_the_rare_class(classes: int, encoding: str) -> None:
    """Pixels that tell nothing: what is left to learn is how common each class is."""
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.inference.prediction import predict_probabilities
    from imgpipe.nn.training.loop import compile_model

    labels = np.where(np.arange(300) % 10 == 0, classes - 1, np.arange(300) % (classes - 1))
    images = np.full((300, 12, 12, 1), 255, dtype=np.uint8)
    rare = {}
    for weights in ("none", "balanced"):
        params = with_changes(
            EASY,
            train__class_weights=weights,
            train__label_encoding=encoding,
            train__epochs=40,
            train__batch_size=100,
            train__learning_rate_schedule="constant",
        )
        keras.utils.set_random_seed(1)
        model = build("mlp", params, shape=(12, 12, 1), classes=classes)
        compile_model(model, params.train, examples=300)
        train_on(model, images, labels, params.train)
        rare[weights] = predict_probabilities(model, images[:1])[0, classes - 1]
    assert rare["none"] == pytest.approx(0.1, abs=0.03)
    assert rare["balanced"] == pytest.approx(1 / classes, abs=0.05)


def test_with_balanced_classes_losses_are_means_over_classes() -> None:
    """A network that always says the same: its loss on each class is known."""
    from imgpipe.nn.training.loop import compile_model

    params = with_changes(
        EASY, train__class_weights="balanced", train__epochs=1, train__learning_rate=1e-9
    )
    labels = np.where(np.arange(200) < 180, 0, 1)
    images, _ = easy_images(200)
    model = build("cnn", params, shape=(12, 12, 1), classes=3)
    logits = model.get_layer("logits")
    logits.set_weights([np.zeros_like(logits.get_weights()[0]), np.log([0.7, 0.2, 0.1])])
    compile_model(model, params.train, examples=200)
    (epoch,) = train_on(model, images, labels, params.train)
    expected = -(np.log(0.7) + np.log(0.2)) / 2
    assert epoch.loss == pytest.approx(expected, rel=1e-3)
    assert epoch.validation_loss == pytest.approx(expected, rel=1e-3)
    assert epoch.validation_accuracy == pytest.approx(0.9)


RANDOM: dict[str, Any] = {
    "train__random_flip": "both",
    "train__random_rotation_deg": 90.0,
    "train__random_translation_frac": 0.3,
    "train__random_zoom_frac": 0.4,
    "train__random_contrast_frac": 0.5,
}


def transformed(images: np.ndarray, *, training: bool = True, **changes: Any) -> np.ndarray:
    """What reaches the network behind the random transformations."""
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.training.augmentation_layers import transform_while_training

    shape = images.shape[1:]
    pixels = keras.Input(shape, dtype="uint8")
    seen = keras.Model(pixels, keras.layers.Rescaling(1.0, dtype="float32")(pixels))
    wrapped = transform_while_training(seen, with_changes(**changes).train)
    return np.asarray(wrapped(images, training=training))


@pytest.mark.parametrize(("key", "value"), RANDOM.items())
def test_each_random_transformation_changes_images_in_training_alone(key: str, value: Any) -> None:
    images, _ = easy_images(30)
    changed = transformed(images, **{key: value})
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (changed == changed.round()).all()  # whole numbers, as in the records
    assert (changed != images).any(axis=(1, 2, 3)).mean() > 0.6
    assert (transformed(images, training=False, **{key: value}) == images).all()


def test_random_transformations_do_what_they_are_called() -> None:
    ramp = np.tile(np.arange(10, 250, 20, dtype=np.uint8)[None, :, None], (64, 12, 1, 1))
    ramp = ramp.reshape(64, 12, 12, 1)  # rises to the right, from 10 to 230
    flipped = transformed(ramp, train__random_flip="horizontal")
    assert {(image == ramp[0, :, ::-1]).all() for image in flipped} == {True, False}
    assert all((image == ramp[0]).all() or (image == ramp[0, :, ::-1]).all() for image in flipped)
    assert (transformed(ramp, train__random_flip="vertical") == ramp).all()
    shifted = transformed(ramp, train__random_translation_frac=0.25)
    assert shifted[:, 6, 6].min() >= 70  # a quarter of 12 pixels is 3 steps of 20 from 130
    assert shifted[:, 6, 6].max() <= 190
    assert shifted[:, 6, 6].std() > 20
    assert shifted.min() == 10  # outside, the nearest pixel: never a new value
    assert shifted.max() == 230
    contrast = transformed(ramp, train__random_contrast_frac=0.5)
    spread = contrast.std(axis=(1, 2, 3)) / ramp[0].std()
    assert 0.45 < spread.min() < 0.8 < 1.2 < spread.max() < 1.55


def test_random_rotation_and_zoom_go_as_far_as_they_are_told() -> None:
    images = np.zeros((200, 41, 41, 1), dtype=np.uint8)
    images[:, 17:24, 27:34] = 200  # to the right of the middle
    rows, columns = np.mgrid[:41, :41] - 20

    def mean_of(places: np.ndarray, changed: np.ndarray) -> np.ndarray:
        return np.asarray((changed[..., 0] * places).sum(axis=(1, 2)) / changed.sum(axis=(1, 2, 3)))

    turned = transformed(images, train__random_rotation_deg=60.0)
    angles = np.degrees(np.arctan2(mean_of(rows, turned), mean_of(columns, turned)))
    assert -61 < angles.min() < -50
    assert 50 < angles.max() < 61
    zoomed = transformed(images, train__random_zoom_frac=0.2)
    factors = 10 / mean_of(columns, zoomed)  # the block was 10 pixels from the middle
    assert 0.79 < factors.min() < 0.85
    assert 1.15 < factors.max() < 1.21


def test_random_transformations_round_to_the_nearest_number() -> None:
    grey = np.full((64, 12, 12, 1), 101, dtype=np.uint8)
    changes = {key: value for key, value in RANDOM.items() if "contrast" not in key}
    assert (transformed(grey, **changes) == 101).all()
    steps = np.tile(np.array([100, 101], dtype=np.uint8), (64, 12, 6))[..., None]
    shifted = transformed(steps, train__random_translation_frac=0.3)
    assert abs(shifted[:, 3:9, 4:8].mean() - 100.5) < 0.1  # truncated, they would lie below


def test_without_random_transformations_the_network_is_itself() -> None:
    from imgpipe.nn.training.augmentation_layers import transform_while_training

    model = build("mlp")
    assert transform_while_training(model, PARAMS.train) is model


def test_random_transformations_differ_from_each_other_and_repeat_by_seed() -> None:
    images, _ = easy_images(30)
    first = transformed(images, **RANDOM)
    assert (first == transformed(images, **RANDOM)).all()
    assert (first != transformed(images, **RANDOM, train__seed=2)).any()
    from imgpipe.nn.training.augmentation_layers import transform_while_training

    wrapped = transform_while_training(build("mlp"), with_changes(**RANDOM).train)
    seeds = [layer.seed for layer in wrapped.layers if hasattr(layer, "seed")]
    assert len(seeds) == len(set(seeds)) == 6  # both flips are one each


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_training_with_random_transformations_leaves_them_out_of_the_model(
    precision: str, tmp_path: Path
) -> None:
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.inference.loading import load_model
    from imgpipe.nn.training.augmentation_layers import transform_while_training
    from imgpipe.nn.training.loop import compile_model

    params = with_changes(EASY, train__random_translation_frac=0.1, train__epochs=6)
    keras.config.set_dtype_policy(precision)
    try:
        keras.utils.set_random_seed(1)
        images, labels = easy_images(200)
        model = build("cnn", params, shape=(12, 12, 1))
        before = model.get_layer("logits").get_weights()[0]
        learner = transform_while_training(model, params.train)
        compile_model(learner, params.train, examples=200)
        history = train_on(learner, images, labels, params.train)
    finally:
        keras.config.set_dtype_policy("float32")
    assert (model.get_layer("logits").get_weights()[0] != before).any()
    assert max(epoch.validation_accuracy for epoch in history) > 0.8
    save(model, tmp_path / "model.keras")
    assert [layer.name for layer in load_model(tmp_path / "model.keras").layers] == [
        layer.name for layer in model.layers
    ]
    assert not any("random" in layer.name for layer in model.layers)


REGULARISED = {
    "architectures__cnn__conv_dropout_frac": 0.3,
    "architectures__cnn__batch_norm": True,
    "train__random_translation_frac": 0.1,
    "train__class_weights": "balanced",
    "train__l2_penalty": 0.001,
    "train__epochs": 6,
}


@pytest.mark.parametrize(
    "changes",
    [
        REGULARISED,
        {**REGULARISED, "train__optimizer": "sgd", "train__learning_rate_schedule": "exponential"},
        {"train__precision": "mixed_float16", "train__epochs": 6},  # with a scaled loss
        {"train__early_stopping_patience_epochs": 2, "train__epochs": 9},
    ],
    ids=["adam", "sgd", "float16", "early-stopping"],
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """History and weights, to the last bit, wherever it was stopped."""
    from imgpipe.nn.common.runtime import keras, tf
    from imgpipe.nn.training.augmentation_layers import transform_while_training
    from imgpipe.nn.training.checkpoint import TrainingState
    from imgpipe.nn.training.loop import compile_model, train_model

    tf.config.experimental.enable_op_determinism()
    params = with_changes(EASY, **changes)
    images, labels = easy_images(200)
    misleading = (labels + 1) % 10 if params.train.early_stopping_patience_epochs else labels

    epochs_shown: list[int] = []
    of_epoch = training.TrainingBatches.of_epoch

    def show_epoch(batches: Any, epoch: int) -> Any:
        epochs_shown.append(epoch)
        return of_epoch(batches, epoch)

    monkeypatch.setattr(training.TrainingBatches, "of_epoch", show_epoch)

    def run(
        reached: TrainingState | None,
    ) -> tuple[list[Any], list[np.ndarray], list[TrainingState]]:
        epochs_shown.clear()
        keras.utils.set_random_seed(1)
        model = build("cnn", params, shape=(12, 12, 1))
        learner = transform_while_training(model, params.train)
        compile_model(learner, params.train, examples=200)
        kept: list[TrainingState] = []
        history = train_model(
            learner, images, in_one_variant(images), labels, (images, misleading), params.train,
            lambda epochs: None, reached=reached, keep=kept.append,
        )  # fmt: skip
        return history, model.get_weights(), kept

    keras.config.set_dtype_policy(params.train.precision)
    try:
        history, weights, kept = run(None)
        assert [len(reached.history) for reached in kept] == list(range(1, len(history) + 1))
        for stopped_after in (1, len(history) - 1, len(history)):
            again, weights_again, kept_again = run(kept[stopped_after - 1])
            assert again == history
            assert all((a == b).all() for a, b in zip(weights, weights_again, strict=True))
            assert len(kept_again) == len(history) - stopped_after
            assert epochs_shown == list(range(stopped_after, len(history)))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, and a temporary copy of it as the current folder."""
    (tmp_path / "repository" / ".dvc").mkdir(parents=True)
    (tmp_path / "copy").mkdir()
    monkeypatch.setenv("DVC_ROOT", (tmp_path / "repository").as_posix())
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "repository"


def reached_after(epochs: int) -> Any:
    from imgpipe.nn.training.checkpoint import TrainingState

    return TrainingState(
        history=[[number + 1, 0.1, 1 / 3] for number in range(epochs)],
        # More than ten, so that an order by name would show.
        variables=[np.full((2, 3), number, dtype=np.float32) for number in range(12)],
        best_weights=[np.arange(4, dtype=np.float32), np.array(7, dtype=np.int64)],
    )


def test_what_was_reached_is_kept_in_the_repository_until_it_is_forgotten(repository: Path) -> None:
    from imgpipe.nn.training.checkpoint import Checkpoint

    unfinished = Checkpoint({"seed": 1})
    assert unfinished.load() is None
    for epochs in (1, 2):
        unfinished.keep(reached_after(epochs))
    found = Checkpoint({"seed": 1}).load()
    assert found is not None
    assert found.history == reached_after(2).history
    for name in ("variables", "best_weights"):
        for value, expected in zip(
            getattr(found, name), getattr(reached_after(2), name), strict=True
        ):
            assert value.dtype == expected.dtype
            assert (value == expected).all()
    assert list(Path.cwd().iterdir()) == []
    (folder,) = (repository / ".dvc" / "tmp" / "imgpipe").iterdir()
    assert [path.name for path in folder.iterdir()] == ["state.npz"]
    unfinished.forget()
    assert unfinished.load() is None
    assert not folder.exists()


def test_another_training_has_another_place(repository: Path) -> None:
    from imgpipe.nn.training.checkpoint import Checkpoint

    Checkpoint({"seed": 1, "records": ["a", "b"]}).keep(reached_after(1))
    for seed, records in ((2, ["a", "b"]), (1, ["b", "a"]), (1, ["a"])):
        assert Checkpoint({"seed": seed, "records": records}).load() is None


def test_what_is_not_whole_is_not_gone_on_with(repository: Path) -> None:
    from imgpipe.nn.training.checkpoint import Checkpoint

    unfinished = Checkpoint({})
    unfinished.keep(reached_after(3))
    (state,) = (repository / ".dvc" / "tmp" / "imgpipe").rglob("state.npz")
    content = state.read_bytes()
    seven = np.full((2, 3), 7, dtype=np.float32).tobytes()
    eight = np.full((2, 3), 8.5, dtype=np.float32).tobytes()
    for damaged in (b"", content[: len(content) // 2], content.replace(seven, eight)):
        assert damaged != content
        state.write_bytes(damaged)
        assert unfinished.load() is None
    state.write_bytes(content)
    assert unfinished.load() is not None


def test_two_runs_of_one_training_do_not_disturb_each_other(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgpipe.nn.training.checkpoint import Checkpoint, np

    first, second = (Checkpoint({}) for _ in range(2))
    first.keep(reached_after(1))
    second.keep(reached_after(2))
    assert first.load() is not None
    second.forget()
    first.keep(reached_after(3))
    savez = np.savez
    calls: list[Any] = []

    def forget_and_save(stream: Any, **arrays: Any) -> None:
        if not calls:
            second.forget()  # just when the first one writes
        calls.append(stream)
        savez(stream, **arrays)

    monkeypatch.setattr(np, "savez", forget_and_save)
    first.keep(reached_after(4))
    found = first.load()
    assert found is not None
    assert len(found.history) == 4
    assert len(calls) == 2


def test_outside_a_repository_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgpipe.nn.training.checkpoint import Checkpoint

    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    unfinished = Checkpoint({})
    unfinished.keep(reached_after(1))
    assert unfinished.load() is None
    unfinished.forget()
    assert list(tmp_path.iterdir()) == []


def test_trainings_that_nobody_went_on_with_are_forgotten_in_time(repository: Path) -> None:
    from imgpipe.nn.training.checkpoint import Checkpoint

    old, recent, done = (Checkpoint({"seed": seed}) for seed in range(3))
    old.keep(reached_after(1))
    (folder,) = (repository / ".dvc" / "tmp" / "imgpipe").iterdir()
    recent.keep(reached_after(1))
    os.utime(folder / "state.npz", (0, 0))
    done.forget()
    assert old.load() is None
    assert recent.load() is not None


def test_a_diverging_loss_is_an_error() -> None:
    params = with_changes(EASY, train__optimizer="sgd", train__learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="the loss is nan after epoch 1"):
        train(params)


def test_equal_seeds_give_equal_weights_and_files(tmp_path: Path) -> None:
    from imgpipe.nn.common.runtime import tf

    tf.config.experimental.enable_op_determinism()
    params = with_changes(EASY, architectures__cnn__conv_dropout_frac=0.3)
    for name in ("first", "second"):
        save(train(params)[0], tmp_path / name / "model.keras")
    first, second = ((tmp_path / name / "model.keras").read_bytes() for name in ("first", "second"))
    assert first == second
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["model.keras"]


def test_what_keras_would_load_for_nothing_is_not_loaded_but_can_be() -> None:
    code = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from imgpipe.nn.runtime import NOT_FOR_KERAS\n"
        "import imgpipe.nn.architectures, imgpipe.nn.dataset, imgpipe.nn.inference\n"
        "import imgpipe.nn.model_file, imgpipe.nn.random_transforms, imgpipe.nn.training\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & set(NOT_FOR_KERAS)))\n"
        "import sklearn.metrics, pandas, matplotlib.figure\n"
        "print(sklearn.metrics.log_loss([0, 1], [0.5, 0.5]), pandas.Series([1, 2]).sum())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["[]", "0.6931471805599453 3"]


def test_the_model_file_says_what_it_takes(tmp_path: Path) -> None:
    from imgpipe.nn.inference.loading import read_signature

    path = tmp_path / "model.keras"
    with pytest.raises(PipelineError, match=r"model\.keras: not found; `dvc repro train` writes"):
        read_signature(path)
    path.write_bytes(b"rotten")
    with pytest.raises(PipelineError, match=r"model\.keras: not a model of this pipeline"):
        read_signature(path)
    model = build("mlp", shape=(12, 12, 1))
    model.save(path)
    with pytest.raises(PipelineError, match="it does not say which images it takes"):
        read_signature(path)
    save(model, path)
    signature = read_signature(path)
    assert (signature.dataset, signature.classes) == ("easy", ["a", "b"])
    assert signature.image_spec == FRAMING


def test_progress_is_told_while_training_and_predicting() -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities

    params = with_changes(EASY, train__epochs=2, train__batch_size=16)
    images, labels = easy_images(1000)
    model = build("mlp", params, shape=(12, 12, 1))
    training.compile_model(model, params.train, examples=1000)
    told: list[tuple[int, int, float, float]] = []
    history = training.train_model(
        model, images, in_one_variant(images), labels, (images[:50], labels[:50]), params.train,
        lambda epochs: None, on_images=lambda *values: told.append(values),
    )  # fmt: skip
    # 63 steps an epoch, 50 at once; the last batch has 8 images.
    assert [values[:2] for values in told] == [(1, 800), (1, 200), (2, 800), (2, 200)]
    for epoch, last in zip(history, told[1::2], strict=True):
        assert last[2:] == pytest.approx((epoch.loss, epoch.accuracy))
    done: list[int] = []
    predict_probabilities(build("mlp", params, shape=(12, 12, 1)), images, done.append)
    assert done == [512, 488]


def test_fewer_images_are_shown_at_once_where_they_are_large() -> None:
    """Else a network's layers would take gigabytes of memory for them."""
    from imgpipe.nn.common.batches import evaluation_batch_size, ordered_batches

    assert evaluation_batch_size((28, 28, 1)) == 512
    assert evaluation_batch_size((150, 150, 3)) == 62
    assert evaluation_batch_size((4096, 4096, 3)) == 1
    images = np.zeros((150, 150, 150, 3), dtype=np.uint8)
    taken = list(ordered_batches(images, np.arange(150)))
    assert [batch.shape[0] for batch, _ in taken] == [62, 62, 26]
    assert np.concatenate([numbers for _, numbers in taken]).tolist() == list(range(150))


def test_the_model_file_loads_as_it_was_saved(tmp_path: Path) -> None:
    from imgpipe.nn.inference.loading import load_model
    from imgpipe.nn.inference.prediction import predict_probabilities

    model = build("resnet", shape=(12, 12, 1))
    images, _ = easy_images(20)
    save(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert (predict_probabilities(loaded, images) == predict_probabilities(model, images)).all()
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"date" not in archive.read("metadata.json")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    from imgpipe.nn.inference.loading import load_model

    with pytest.raises(PipelineError, match=r"model\.keras: not found"):
        load_model(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_bytes(b"no archive")
    with pytest.raises(PipelineError, match=r"model\.keras: not a Keras model"):
        load_model(tmp_path / "model.keras")


def test_the_layer_table_adds_up() -> None:
    from imgpipe.nn.training.saved_model import describe_layers

    lines = describe_layers(
        build("cnn", with_changes(architectures__cnn__batch_norm=True))
    ).splitlines()
    assert lines[0].split("  ")[0].strip() == "layer"
    counts = {
        line.split()[0]: int(line.split()[-1].replace(",", ""))
        for line in lines[2:]
        if line[0] != "-"
    }
    total, trainable = counts.pop("total"), counts.pop("trainable")
    assert sum(counts.values()) == total
    assert total - trainable == 2 * (32 + 64 + 64)  # moving mean and variance
    assert any("13 x 13 x 32" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "kernels", "layers"),
    [("cnn", (32, 3, 3, 1), 3), ("mlp", (512, 28, 28, 1), 0), ("resnet", (16, 3, 3, 1), 7)],
)
def test_what_the_network_sees(name: str, kernels: tuple[int, ...], layers: int) -> None:
    from imgpipe.nn.inference.explanation import activation_maps, feature_maps, first_kernels

    model = build(name)
    images = GENERATOR.integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    assert first_kernels(model).shape == kernels
    maps = feature_maps(model, images)
    assert len(maps) == layers
    for _, values in maps:
        assert values.shape[0] == 4
        assert values.min() >= 0
    activation = activation_maps(model, images)
    assert activation.shape[0] == 4
    assert activation.ndim == 3
    assert activation.min() >= 0
    assert activation.max() <= 1


def test_the_evidence_for_either_of_two_classes_is_shown() -> None:
    from imgpipe.nn.inference.explanation import activation_maps
    from imgpipe.nn.inference.prediction import predict_probabilities

    model, _ = train(EASY, classes=2)
    images, labels = easy_images(40, 2)
    assert set(predict_probabilities(model, images).argmax(axis=1)) == {0, 1}
    maps = activation_maps(model, images)
    for label in (0, 1):
        assert (maps[labels == label].sum(axis=(1, 2)) > 0).mean() > 0.5
    # With the classes exchanged, the evidence for the predicted one lies where it lay.
    logits = model.get_layer("logits")
    logits.set_weights([-values for values in logits.get_weights()])
    assert activation_maps(model, images) == pytest.approx(maps, abs=1e-5)


def test_a_dense_kernel_lies_as_the_image_does() -> None:
    from imgpipe.nn.inference.explanation import first_kernels

    model = build("mlp", shape=(4, 5, 3))
    weights = np.asarray(model.layers[3].kernel)
    assert first_kernels(model)[7, 2, 3, 1] == weights[(2 * 5 + 3) * 3 + 1, 7]


def test_a_dense_kernel_on_rows_is_a_row() -> None:
    from imgpipe.nn.inference.explanation import activation_maps, first_kernels

    model = build("mlp", with_changes(architectures__mlp__sees="row"), shape=(4, 5, 3))
    weights = np.asarray(model.get_layer("dense_1").kernel)
    kernels = first_kernels(model)
    assert kernels.shape == (512, 1, 5, 3)
    assert kernels[7, 0, 3, 1] == weights[3 * 3 + 1, 7]
    images = GENERATOR.integers(0, 256, (4, 4, 5, 3), dtype=np.uint8)
    assert activation_maps(model, images).shape == (4, 4, 5)


def test_activation_maps_point_to_where_the_evidence_is() -> None:
    from imgpipe.nn.inference.explanation import activation_maps

    model, history = train(EASY)
    assert history[-1].validation_accuracy > 0.95
    images, labels = easy_images(50)
    maps = activation_maps(model, images)
    upper = labels < 5  # their square lies in the upper half
    middle = maps.shape[1] // 2
    total = maps.sum(axis=(1, 2))
    assert (total > 0).mean() > 0.5  # where everything speaks against a class, a map is empty
    weight_above = maps[:, :middle].sum(axis=(1, 2)) / np.maximum(total, 1e-9)
    assert weight_above[upper & (total > 0)].mean() > 0.7
    assert weight_above[~upper & (total > 0)].mean() < 0.3
