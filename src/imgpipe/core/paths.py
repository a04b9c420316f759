"""The files and folders through which the stages are connected, as dvc.yaml declares them."""

from pathlib import Path

RAW = Path("data/raw")
"""Output of `fetch`."""
RECORDS = Path("data/records")
"""Output of `preprocess`."""
DATA_METRICS = Path("metrics/data.json")
THUMBNAILS = Path("data/thumbnails.npz")
AUGMENTED = Path("data/augmented")
"""Output of `augment`."""
MODEL = Path("models/model.keras")
LAYERS = Path("models/layers.txt")
TRAINING_EXAMPLES = Path("data/training/examples.npz")
OUT_OF_SAMPLE = Path("data/training/out_of_sample.npz")
HISTORY = Path("metrics/history.csv")
TRAINING_METRICS = Path("metrics/train.json")
PREDICTIONS = Path("data/evaluation/predictions.csv")
ROC = Path("data/evaluation/roc.csv")
VIEWS = Path("data/evaluation/views.npz")
TEST_METRICS = Path("metrics/test.json")
CLASS_SCORES = Path("metrics/per_class.csv")
RELIABILITY = Path("metrics/reliability.csv")
LABEL_ISSUES = Path("metrics/label_issues.csv")
MISTAKES = Path("metrics/mistakes.csv")
PLOTS = Path("metrics/plots")
REPORT = Path("metrics/report.html")
DATA_REPORT = Path("metrics/data.html")
