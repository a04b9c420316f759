"""Networks, their data, training, the model file and inference: everything on TensorFlow."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from imgpipe.errors import PipelineError
from imgpipe.normalization import Normalization
from imgpipe.params import Params, load_params
from imgpipe.records import (
    AugmentedInfo,
    RecordsInfo,
    Shard,
    SplitInfo,
    copy_folder,
    write_shard,
)

pytestmark = pytest.mark.tf

PARAMS = load_params(ROOT / "params.yaml")
RESCALE = Normalization(method="rescale", scale=[1 / 255], offset=[0.0])
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


def build(
    name: str,
    params: Params = PARAMS,
    *,
    shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    normalization: Normalization = RESCALE,
) -> Any:
    from imgpipe.nn.architectures import build_model

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
        image_shape=[12, 12, 1],
        normalization=RESCALE,
        record_encoding=encoding,
        record_fields={},
        splits={"train": split},
    )
    return records, info, augmented, AugmentedInfo(copies=2, record_fields={}, shards=shards)


def test_variants_are_the_records(
    small_records: tuple[Path, RecordsInfo, Path, AugmentedInfo],
) -> None:
    from imgpipe.nn.dataset import load_split, load_variants

    records, info, _, _ = small_records
    variants, labels = load_variants(*small_records)
    assert variants.shape == (3, 25, 12, 12, 1)
    assert variants.dtype == np.uint8
    images, expected = easy_images(25)
    assert labels.tolist() == expected.tolist()
    for copy in range(3):
        assert (variants[copy] == images // (copy + 1)).all()
    assert (load_split(records, info, "train")[0] == images).all()


def test_a_damaged_shard_is_named(
    small_records: tuple[Path, RecordsInfo, Path, AugmentedInfo],
) -> None:
    from imgpipe.nn.dataset import load_split

    records, info, _, _ = small_records
    path = records / info.splits["train"].shards[1].file
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        PipelineError, match=r"train-1\.tfrecord: record \d+: damaged (content|length)$"
    ):
        load_split(records, info, "train")
    shutil.copy(records / info.splits["train"].shards[0].file, path)
    with pytest.raises(PipelineError, match=r"info\.json says 25 examples; found 30"):
        load_split(records, info, "train")
    path.write_bytes(b"")
    with pytest.raises(PipelineError, match=r"info\.json says 25 examples; found 15"):
        load_split(records, info, "train")


def epoch_of(variants: np.ndarray, epoch: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    from imgpipe.nn.dataset import training_batches

    labels = np.arange(variants.shape[1])
    batches = list(training_batches(variants, labels, batch_size=8, epoch=epoch, seed=seed))
    assert [len(batch[1]) for batch in batches] == [8, 8, 8, 1]
    images, order = (np.concatenate(column) for column in zip(*batches, strict=True))
    return images, order


def test_an_epoch_shows_every_image_once_and_v_epochs_show_every_variant() -> None:
    # The pixel tells variant and image: 100 * variant + image.
    variants = (np.arange(2)[:, None] * 100 + np.arange(25)).astype(np.uint8)
    variants = variants[..., None, None, None]
    seen = []
    for epoch in range(2):
        images, order = epoch_of(variants, epoch)
        assert sorted(order) == list(range(25))
        pixels = images[:, 0, 0, 0].astype(int)
        assert (pixels % 100 == order).all()
        assert len(set(pixels // 100)) == 2  # originals and copies are mixed in every epoch
        seen += pixels.tolist()
    assert sorted(seen) == sorted(variants.ravel().tolist())


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    variants = np.zeros((1, 25, 2, 2, 1), dtype=np.uint8)
    first, again = epoch_of(variants, 4)[1], epoch_of(variants, 4)[1]
    assert (first == again).all()
    assert (first != epoch_of(variants, 5)[1]).any()
    assert (first != epoch_of(variants, 4, seed=9)[1]).any()


@pytest.mark.parametrize(
    ("name", "changes", "parameters"),
    [
        ("cnn", {}, 93_322),  # the convolutional network of TensorFlow's own tutorial
        (
            "cnn",
            {
                "architectures__cnn__filters": [32],
                "architectures__cnn__pool_px": [2],
                "architectures__cnn__padding": "same",
            },
            402_442,
        ),
        ("mlp", {"architectures__mlp__units": [512]}, 407_050),
        # Convolutions without bias, four values for each normalised channel.
        (
            "resnet",
            {"architectures__resnet__filters": [4, 8]},
            (9 * 4 + 16)  # first convolution
            + 2 * (9 * 4 * 4 + 16)  # first stage
            + (9 * 4 * 8 + 32) + (9 * 8 * 8 + 32) + (4 * 8 + 32)  # second stage and its shortcut
            + 8 * 10 + 10,
        ),
    ],
)  # fmt: skip
def test_numbers_of_parameters(name: str, changes: dict[str, Any], parameters: int) -> None:
    assert build(name, with_changes(**changes)).count_params() == parameters


def test_two_classes_have_one_output_unit() -> None:
    params = with_changes(
        architectures__cnn__filters=[32, 64, 128],
        architectures__cnn__pool_px=[2, 2, 2],
        architectures__cnn__dense_units=[],
    )
    model = build("cnn", params, shape=(150, 150, 3), classes=2)
    assert model.count_params() == 130_241
    assert model.output_shape == (None, 1)
    assert model.layers[-1].activation.__name__ == "sigmoid"
    assert build("cnn", classes=3).layers[-1].activation.__name__ == "softmax"


def test_the_unit_is_the_probability_of_the_second_class() -> None:
    from imgpipe.nn.inference import predict_probabilities

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
    from imgpipe.nn.inference import predict_probabilities

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
    from imgpipe.nn.runtime import keras

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
    from imgpipe.nn.runtime import keras

    def kinds(**changes: Any) -> list[type]:
        return [type(layer) for layer in build("cnn", with_changes(**changes)).layers]

    plain = kinds(architectures__cnn__dropout_frac=0.0)
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
    from imgpipe.nn.runtime import keras
    from imgpipe.nn.training import compile_model, train_model

    keras.utils.set_random_seed(params.train.seed)
    images, labels = easy_images(count, classes)
    model = build(name, params, shape=(12, 12, 1), classes=classes)
    compile_model(model, params.train, examples=count)
    validation = images, (labels + 1) % 10 if misleading else labels
    seen: list[Any] = []
    history = train_model(model, images[None], labels, validation, params.train, seen.append)
    assert seen == history
    return model, history


EASY = with_changes(
    architectures__cnn__filters=[8],
    architectures__cnn__pool_px=[2],
    architectures__cnn__dropout_frac=0.0,
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
    from imgpipe.nn.inference import predict_probabilities

    model, history = train(EASY, classes=2)
    assert history[-1].validation_accuracy > 0.95
    images, labels = easy_images(200, 2)
    probabilities = predict_probabilities(model, images)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95
    best = min(epoch.validation_loss for epoch in history)
    expected = -np.log(probabilities[np.arange(200), labels]).mean()
    assert best == pytest.approx(expected, rel=1e-3)


def test_one_hot_labels_train_as_sparse_ones_do() -> None:
    from imgpipe.nn.runtime import keras
    from imgpipe.nn.training import compile_model, encode_labels

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
    from imgpipe.nn.inference import predict_probabilities
    from imgpipe.nn.training import best_epoch

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
    from imgpipe.nn.inference import predict_probabilities
    from imgpipe.nn.runtime import keras

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
    from imgpipe.nn.inference import predict_probabilities

    images, _ = easy_images(50)
    confidence = {}
    for smoothing in (0.0, 0.5):
        model, history = train(with_changes(EASY, train__label_smoothing=smoothing))
        confidence[smoothing] = predict_probabilities(model, images).max(axis=1).mean()
    assert confidence[0.5] < 0.65 < 0.9 < confidence[0.0]
    # At its best, a target of 0.55 for the true class costs -ln(0.55) in plain cross-entropy.
    assert history[-1].validation_loss == pytest.approx(-np.log(0.55), abs=0.1)


def test_a_diverging_loss_is_an_error() -> None:
    params = with_changes(EASY, train__optimizer="sgd", train__learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="the loss is nan after epoch 1"):
        train(params)


def test_equal_seeds_give_equal_weights_and_files(tmp_path: Path) -> None:
    from imgpipe.nn.model_file import save_model
    from imgpipe.nn.runtime import tf

    tf.config.experimental.enable_op_determinism()
    params = with_changes(EASY, architectures__cnn__dropout_frac=0.3)
    for name in ("first", "second"):
        save_model(train(params)[0], tmp_path / name / "model.keras")
    first, second = ((tmp_path / name / "model.keras").read_bytes() for name in ("first", "second"))
    assert first == second
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["model.keras"]


def test_the_model_file_loads_as_it_was_saved(tmp_path: Path) -> None:
    from imgpipe.nn.inference import predict_probabilities
    from imgpipe.nn.model_file import load_model, save_model

    model = build("resnet", shape=(12, 12, 1))
    images, _ = easy_images(20)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert (predict_probabilities(loaded, images) == predict_probabilities(model, images)).all()
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"date" not in archive.read("metadata.json")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    from imgpipe.nn.model_file import load_model

    with pytest.raises(PipelineError, match=r"model\.keras: not found"):
        load_model(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_bytes(b"no archive")
    with pytest.raises(PipelineError, match=r"model\.keras: not a Keras model"):
        load_model(tmp_path / "model.keras")


def test_the_layer_table_adds_up() -> None:
    from imgpipe.nn.model_file import describe_layers

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
    from imgpipe.nn.inference import activation_maps, feature_maps, first_kernels

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
    from imgpipe.nn.inference import activation_maps, predict_probabilities

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
    from imgpipe.nn.inference import first_kernels

    model = build("mlp", shape=(4, 5, 3))
    weights = np.asarray(model.layers[3].kernel)
    assert first_kernels(model)[7, 2, 3, 1] == weights[(2 * 5 + 3) * 3 + 1, 7]


def test_activation_maps_point_to_where_the_evidence_is() -> None:
    from imgpipe.nn.inference import activation_maps

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
