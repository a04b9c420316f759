"""Logistic regression on features; the expected values come from scikit-learn and SciPy."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.core.exact_sums import ExactMatrix
from imgpipe.nn.transfer.logistic_regression import (
    Examples,
    LabeledFeatures,
    Layer,
    choose_penalty,
    cross_entropy,
    fit_layer,
    fit_standardization,
    one_thread,
)

PENALTIES = [0.0001, 0.001, 0.01, 0.1, 1.0]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Use one thread, as the stage does: these fits are slower with more threads."""
    with one_thread():
        yield


def unscaled(examples: LabeledFeatures) -> Examples:
    """Return the examples of a fit, with their features as they are."""
    return examples.standardize(np.zeros(1, np.float32), np.float32(1))


def make_examples(
    per_class: int, *, classes: int = 2, noise: float = 1.0, width: int = 12, variants: int = 1
) -> tuple[LabeledFeatures, NDArray[np.int64]]:
    """Return examples of classes around random centers, and the labels of the examples."""
    generator = np.random.default_rng([per_class, classes])
    labels = np.repeat(np.arange(classes), per_class)
    centers = generator.normal(size=(classes, width))
    rows = [
        centers[labels] + noise * generator.normal(size=(len(labels), width))
        for _ in range(variants)
    ]
    every = np.tile(labels, variants)
    examples = LabeledFeatures(
        features=np.concatenate(rows).astype(np.float32),
        targets=np.eye(classes)[every],
        weights=np.ones(len(every)),
        groups=np.tile(np.arange(len(labels)), variants),
    )
    return examples, every


def find_gradient(layer: Layer, examples: LabeledFeatures, penalty: float) -> NDArray[np.float64]:
    """Return the gradient of the objective, (F + 1, outputs), in float64; the bias comes last.

    The problem is strictly convex, so a layer is the solution if its gradient is 0.
    """
    inputs = np.column_stack([examples.features.astype(float), np.ones(len(examples.weights))])
    logits = inputs @ np.concatenate([layer.kernel, layer.bias[None]])
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    residuals = powers / powers.sum(axis=1, keepdims=True) - examples.targets
    residuals *= examples.weights[:, None] / examples.weights.sum()
    gradient = inputs.T @ residuals[:, -layer.kernel.shape[1] :]
    gradient[:-1] += 2 * penalty * layer.kernel
    return np.asarray(gradient)


def bound_gradient(layer: Layer, examples: LabeledFeatures) -> float:
    """Return the largest gradient at which the fit may stop: its tolerance, and rounding errors.

    The features are rounded by at most 2 ** -19 of the largest one, so a logit changes by that
    times the sum of the weights of its class, and a probability by at most half of that. The
    weights of the examples add up to 1, so the sum of all residuals is at most 1. The other
    rounding errors are smaller than a hundredth of these.
    """
    largest = np.abs(examples.features).max()
    rounding = 2.0**-19 * largest
    most_weights = np.abs(layer.kernel).sum(axis=0).max()
    return float(1e-5 + 1.01 * rounding * (1 + largest * most_weights / 2))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [0.001, 0.1])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_layer_is_the_solution_that_scikit_learn_finds(
    classes: int, penalty: float, weighted: bool
) -> None:
    from sklearn.linear_model import (
        LogisticRegression,
    )

    examples, labels = make_examples(50, classes=classes)
    if weighted:
        weights = np.where(labels == 0, 3.0, 0.5)
        examples = LabeledFeatures(examples.features, examples.targets, weights, examples.groups)
    theirs = LogisticRegression(
        C=1 / (2 * penalty * examples.weights.sum()), tol=1e-8, solver="newton-cholesky"
    ).fit(examples.features.astype(np.float64), labels, examples.weights)
    # scikit-learn minimizes the same function: with its own tolerance, to which it adds rounding.
    expected = Layer(theirs.coef_.T, theirs.intercept_)
    assert np.abs(find_gradient(expected, examples, penalty)).max() < 2e-8
    layer = fit_layer(unscaled(examples), penalty, most_iterations=1000)
    assert np.abs(find_gradient(layer, examples, penalty)).max() < bound_gradient(layer, examples)
    found = layer.predict(ExactMatrix(examples.features))
    assert found.sum(axis=1) == pytest.approx(np.ones(len(labels)))


def find_objective(layer: Layer, examples: LabeledFeatures, penalty: float) -> float:
    """Return the penalized mean cross-entropy, in float64."""
    logits = examples.features @ layer.kernel + layer.bias
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    losses = np.logaddexp.reduce(logits, axis=1) - (examples.targets * logits).sum(axis=1)
    loss = np.average(losses, weights=examples.weights)
    return float(loss + penalty * (layer.kernel**2).sum())


@pytest.mark.parametrize(
    ("examples", "change"),
    [
        (make_examples(40)[0], {}),
        (make_examples(40, classes=5)[0], {}),
        (make_examples(300, width=50)[0], {"weights": np.repeat([0.2, 1.8], 300)}),
        (make_examples(20, classes=3)[0], {"targets": np.repeat(np.eye(3), 20, 0) * 0.7 + 0.1}),
        (make_examples(1)[0], {}),
        (make_examples(2, classes=4, width=1)[0], {}),
        (make_examples(30, width=200)[0], {}),
    ],
    ids=["2 classes", "5 classes", "weights", "smoothed", "tiny", "1 feature", "wide"],
)
@pytest.mark.parametrize("scales", [0, 4])
@pytest.mark.parametrize("penalty", [0.001, 1.0])
def test_the_layer_is_the_solution_that_scipy_finds(
    examples: LabeledFeatures, change: dict[str, Any], scales: int, penalty: float
) -> None:
    """Some features are up to `scales` powers of ten smaller than others."""
    from scipy.optimize import minimize

    width = examples.features.shape[1]
    factors = 10.0 ** -np.linspace(0, scales, width).astype(np.float32)
    examples = replace(examples, features=examples.features * factors, **change)
    layer = fit_layer(unscaled(examples), penalty, most_iterations=1000)
    outputs = len(layer.bias)

    def to_layer(values: NDArray[np.float64]) -> Layer:
        return Layer(values[:-outputs].reshape(width, outputs), values[-outputs:])

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        there = to_layer(values)
        gradient = find_gradient(there, examples, penalty)
        return find_objective(there, examples, penalty), gradient.ravel()

    begin = np.zeros((width + 1) * outputs)
    options = {"gtol": 1e-9, "ftol": 0, "maxiter": 10_000}
    result = minimize(objective, begin, jac=True, method="L-BFGS-B", options=options)
    theirs = to_layer(result.x)
    assert np.abs(result.jac).max() < 1e-7
    assert np.abs(find_gradient(layer, examples, penalty)).max() < bound_gradient(layer, examples)
    # Of a convex function: values differ by at most the gradient times the distance, and the square
    # of the distance of the weights, times twice the penalty, by at most as much.
    distance = sum(np.abs(ours - others).sum() for ours, others in zip(layer, theirs, strict=True))
    most = (bound_gradient(layer, examples) + 1e-7) * distance
    excess = find_objective(layer, examples, penalty) - find_objective(theirs, examples, penalty)
    assert -1e-7 * distance - 1e-12 <= excess <= most
    assert 2 * penalty * np.square(layer.kernel - theirs.kernel).sum() <= most


def test_the_order_of_the_columns_does_not_matter() -> None:
    """The problem is convex: it has one solution."""
    examples, _ = make_examples(50, classes=4)
    order = np.random.default_rng(3).permutation(examples.features.shape[1])
    permuted = LabeledFeatures(
        examples.features[:, order], examples.targets, examples.weights, examples.groups
    )
    layer = fit_layer(unscaled(permuted), 0.01, most_iterations=1000)
    restored = Layer(layer.kernel[np.argsort(order)], layer.bias)
    assert np.abs(find_gradient(restored, examples, 0.01)).max() < bound_gradient(layer, examples)


def test_a_wrong_label_does_not_stop_the_fit() -> None:
    """Large features and a weak penalty give the wrong label a probability of 0."""
    examples, labels = make_examples(50, noise=0.1)
    wrong = examples.targets.copy()
    wrong[0] = wrong[0, ::-1]
    scaled = LabeledFeatures(examples.features * 1000, wrong, examples.weights, examples.groups)
    layer = fit_layer(unscaled(scaled), 1e-9, most_iterations=1000)
    assert np.isfinite(layer.kernel).all()
    assert (layer.predict(ExactMatrix(scaled.features)).argmax(axis=1) == labels).mean() >= 0.98


def test_more_noise_chooses_a_stronger_penalty() -> None:
    chosen = [
        choose_penalty(
            make_examples(30, noise=noise, width=200)[0],
            PENALTIES,
            folds=5,
            seed=1,
            most_iterations=100,
        ).penalty
        for noise in (0.1, 8.0)
    ]
    assert chosen[0] < chosen[1]


def test_the_log_loss_is_computed_on_images_outside_the_fit() -> None:
    """The features are noise: with a weak penalty, the layer fits only the training images."""
    examples, labels = make_examples(20, noise=100.0, width=200)
    chosen = choose_penalty(examples, [1e-6, 1e-5], folds=5, seed=1, most_iterations=100)
    assert chosen.log_loss is not None
    assert chosen.log_loss > np.log(2)
    assert chosen.probabilities is not None
    held_out = cross_entropy(chosen.probabilities.astype(np.float64), labels)
    assert held_out.mean() == pytest.approx(chosen.log_loss, rel=1e-2)
    fitted = fit_layer(unscaled(examples), chosen.penalty, most_iterations=100).predict(
        ExactMatrix(examples.features)
    )
    assert cross_entropy(fitted, labels).mean() < 0.1


def test_all_variants_of_an_image_are_in_one_fold() -> None:
    """If equal variants were in several folds, the loss on noise would be low."""
    examples, _ = make_examples(20, noise=100.0, width=200)
    repeated = LabeledFeatures(
        *(
            np.concatenate([values] * 3)
            for values in (examples.features, examples.targets, examples.weights, examples.groups)
        )
    )
    once, three_times = (
        choose_penalty(given, [1e-3], folds=5, seed=1, most_iterations=200).log_loss
        for given in (examples, repeated)
    )
    assert three_times == pytest.approx(once, rel=0.1)


@pytest.mark.parametrize(("per_class", "folds"), [(5, 5), (3, 5), (2, 5)])
def test_a_class_with_few_images_limits_the_number_of_folds(per_class: int, folds: int) -> None:
    examples, _ = make_examples(per_class, noise=0.1)
    penalty, log_loss, _ = choose_penalty(
        examples, PENALTIES, folds=folds, seed=1, most_iterations=100
    )
    assert penalty in PENALTIES
    assert log_loss is not None
    assert log_loss < 0.5


def test_a_class_with_one_image_gets_the_strongest_penalty() -> None:
    examples, _ = make_examples(1)
    chosen = choose_penalty(examples, PENALTIES, folds=5, seed=1, most_iterations=100)
    assert chosen == (1.0, None, None)


def test_a_fit_to_5000_images_per_class_succeeds() -> None:
    examples, labels = make_examples(5000, classes=3, noise=0.3, width=64)
    penalty, log_loss, _ = choose_penalty(examples, PENALTIES, folds=3, seed=1, most_iterations=100)
    layer = fit_layer(unscaled(examples), penalty, most_iterations=100)
    assert log_loss is not None
    assert log_loss < 0.05
    assert (layer.predict(ExactMatrix(examples.features)).argmax(axis=1) == labels).mean() > 0.99


def test_equal_examples_give_equal_bytes_and_each_iteration_is_reported() -> None:
    examples, _ = make_examples(50, classes=3)
    layers: list[Layer] = []
    first = fit_layer(unscaled(examples), 0.01, most_iterations=7, on_iteration=layers.append)
    second = fit_layer(unscaled(examples), 0.01, most_iterations=7)
    assert len(layers) == 7
    for found in (second, layers[-1]):
        assert found.kernel.tobytes() == first.kernel.tobytes()
        assert found.bias.tobytes() == first.bias.tobytes()


def test_the_folds_depend_on_the_seed() -> None:
    examples, _ = make_examples(30, noise=3.0)
    losses = {
        choose_penalty(examples, [0.01], folds=5, seed=seed, most_iterations=50).log_loss
        for seed in (1, 1, 2)
    }
    assert len(losses) == 2


def test_standardized_features_have_mean_0_and_mean_square_1() -> None:
    features = make_examples(40)[0].features * 5 + 3
    mean, scale = fit_standardization(features)
    standardized = ((features - mean) / scale).astype(float)
    # A rounding error of float32 is at most eps / 2 of a value: of the mean, of the scale, of the
    # difference and of the quotient. The mean of the features is at most as large as the features.
    bound = 2 * np.finfo(np.float32).eps * np.abs(features).max() / scale
    assert standardized.mean(axis=0) == pytest.approx(np.zeros(12), abs=float(bound))
    assert np.square(standardized).mean() == pytest.approx(1, rel=float(2 * bound))
    assert fit_standardization(np.ones((3, 2), dtype=np.float32))[1] == 1


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_layer_that_includes_the_standardization_gives_the_same_logits(outputs: int) -> None:
    """In float64, so that the bound is far above all rounding errors of 200 terms."""
    generator = np.random.default_rng(1)
    layer = Layer(generator.normal(size=(200, outputs)), generator.normal(size=outputs))
    mean, scale = generator.normal(3, 1, 200).astype(np.float32), np.float32(0.7)
    features = generator.normal(3, 1, (10, 200))
    found = layer.include_standardization(mean, scale)
    expected = ((features - mean) / scale) @ layer.kernel + layer.bias
    assert features @ found.kernel + found.bias == pytest.approx(expected, abs=1e-9)
