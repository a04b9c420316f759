"""The numbers of metrics/data.json."""

import numpy as np

from imgpipe.preprocessing.data_report import NOT_DIVIDED, count_pairs_across
from imgpipe.preprocessing.near_pairs import NearPairs
from imgpipe.preprocessing.splits import LEFT_OUT


def test_near_pairs_across_splits_count_images_of_the_records_only() -> None:
    splits = np.array([0, 0, 1, 2, LEFT_OUT, NOT_DIVIDED], dtype=np.int8)
    pairs = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 4), (3, 5), (4, 5)]
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    found = NearPairs(first, second, np.zeros(len(pairs), dtype=np.int64))
    assert count_pairs_across(found, splits) == 3
    assert count_pairs_across(NearPairs(first[:0], second[:0], second[:0]), splits) == 0
