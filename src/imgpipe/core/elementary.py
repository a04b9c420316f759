"""Stub."""

import numpy as np

exp, log, cos = np.exp, np.log, np.cos
