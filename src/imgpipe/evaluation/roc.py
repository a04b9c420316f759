"""The receiver operating characteristic of a class against all others, and the area under it.

Own code, because scikit-learn takes one resample at a time, and its import takes 1.2 s.
"""

import numpy as np
from numpy.typing import NDArray


def roc_areas(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the curve of each class in each resample.

    Take an example of the class and an example of another class. The area is the probability that
    the network gives the first example the larger probability of the class; a tie counts half. The
    area follows from the ranks of the class's own examples (Mann and Whitney 1947,
    doi:10.1214/aoms/1177730491).

    All counts are whole or half numbers, so the result does not depend on the order of summation.

    Args:
        labels: (N,) in [0, K).
        probabilities: (N, K).
        weights: (R, N), how often each example is in each resample.

    Returns:
        (K, R); NaN if a resample has no example of the class, or no other.
    """
    # Float32 is exact for whole numbers below 2^24, and half the memory to go through.
    by_example = np.ascontiguousarray(weights.T, dtype=np.float32)
    return np.stack(
        [
            _areas_of_class(labels == label, probabilities[:, label], by_example)
            for label in range(probabilities.shape[1])
        ]
    )


def _areas_of_class(
    positive: NDArray[np.bool_], score: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the area in each resample, (R,); the weights are (N, R)."""
    if not positive.any():
        return np.full(weights.shape[1], np.nan)
    edges, edge_of_positive = np.unique(score[positive], return_inverse=True)
    # Group 2e + 1 holds the examples with the score of edge e; group 2e the examples below it, and
    # above edge e - 1.
    group = np.searchsorted(edges, score, "left") + np.searchsorted(edges, score, "right")
    in_groups = _sum_groups(weights, group, 2 * len(edges) + 1)
    own = _sum_groups(weights[positive], edge_of_positive, len(edges))
    # How many examples are below each edge, counting half of those that are equal.
    ranks = np.cumsum(in_groups, axis=0)[:-1:2] + in_groups[1::2] / 2
    positives, total = own.sum(axis=0), in_groups.sum(axis=0)
    # Among the class's own examples, half of all pairs are in order, for any scores.
    ordered = (own * ranks).sum(axis=0) - positives * positives / 2
    pairs = positives * (total - positives)
    areas: NDArray[np.float64] = np.divide(
        ordered, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
    )
    return areas


def _sum_groups(
    weights: NDArray[np.float32], group: NDArray[np.intp], groups: int
) -> NDArray[np.float64]:
    """Return the sums (G, R) of weights (N, R) over the examples of each group (N,)."""
    order = np.argsort(group, kind="stable")
    filled, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((groups, weights.shape[1]))
    sums[filled] = np.add.reduceat(weights[order], starts, axis=0)
    return sums


def roc_corners(
    positive: NDArray[np.bool_], score: NDArray[np.float32]
) -> list[tuple[float, float]]:
    """Return (false positive rate, true positive rate) at the corners of the curve of a class.

    The first corner is (0, 0), the last (1, 1); points on a straight line between two are left out.

    `positive` (N,) says which examples belong to the class, `score` (N,) their probabilities of it.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of equal scores
    true_positives = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    false_positives = np.concatenate([[0], ends + 1]) - true_positives
    right, up = np.diff(false_positives), np.diff(true_positives)
    turns = right[:-1] * up[1:] != right[1:] * up[:-1]
    kept = np.concatenate([[True], turns, [True]])
    counts = np.stack([false_positives, true_positives], axis=1)[kept]
    rates = counts / counts[-1]
    return [(false_positive, true_positive) for false_positive, true_positive in rates.tolist()]
