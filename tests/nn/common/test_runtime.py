"""The import of TensorFlow and Keras."""

import os
import subprocess
import sys

import pytest
from support import ROOT

pytestmark = pytest.mark.tf

CODE = """
import pkgutil, sys
sys.path.insert(0, "src")
from imgpipe.nn.common.runtime import UNUSED_BY_KERAS
import imgpipe.nn
for module in pkgutil.walk_packages(imgpipe.nn.__path__, "imgpipe.nn."):
    __import__(module.name)
print(sorted({name.split(".")[0] for name in sys.modules} & set(UNUSED_BY_KERAS)))
import sklearn.metrics, pandas, matplotlib.figure
print(sklearn.metrics.log_loss([0, 1], [0.5, 0.5]), pandas.Series([1, 2]).sum())
"""


MEMORY_CODE = """
import sys
sys.path.insert(0, "src")
from imgpipe.nn.common.runtime import tf
tensor = tf.ones(1000)
print(tf.config.experimental.get_memory_info("CPU:0")["current"] >= 4000)
"""


def run(code: str, **variables: str) -> list[str]:
    """Return the lines that a new process prints; it prints nothing to standard error."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_unused_libraries_are_not_loaded_but_stay_importable() -> None:
    assert run(CODE) == ["[]", "0.6931471805599453 3"]


def test_tensorflow_reuses_memory_without_onednn_too() -> None:
    """Only the allocator that reuses memory counts how much of it is used."""
    assert run(MEMORY_CODE, TF_ENABLE_ONEDNN_OPTS="0") == ["True"]
