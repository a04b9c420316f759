"""The import of TensorFlow and Keras."""

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


def test_unused_libraries_are_not_loaded_but_stay_importable() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["[]", "0.6931471805599453 3"]
    assert result.stderr == ""
