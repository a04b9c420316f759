"""Stage 5, evaluate: measure the trained model on the test split, each image exactly once.

Reads   `evaluate`, `arithmetic` and its section of `arithmetics` in params.yaml;
        models/model.keras; data/records (test split); data/training/out_of_sample.npz
Writes  metrics/test.json, the metrics; metrics/per_class.csv and metrics/reliability.csv, tables;
        metrics/mistakes.csv, the most confident mistakes with the names of their files;
        metrics/label_issues.csv, the images of all splits whose labels are probably wrong;
        data/evaluation/predictions.csv, the probabilities of each image;
        data/evaluation/roc.csv, points of the ROC curves;
        data/evaluation/views.npz, arrays for the pictures of what the network sees
Costs   the start of TensorFlow, and two passes over the test images; memory for 512 images at once
"""

from imgpipe.console.messages import format_count, report
from imgpipe.console.progress import ProgressBar
from imgpipe.core import paths
from imgpipe.core.files import write_json
from imgpipe.evaluation import tables
from imgpipe.evaluation.label_issues import write_label_issues
from imgpipe.evaluation.metrics import score_predictions
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.evaluation.views import Views, choose_images, write_views
from imgpipe.records.folders import Records
from imgpipe.records.out_of_sample import OutOfSample, read_out_of_sample
from imgpipe.running.stage import StageRun, run_stage


def main(run: StageRun) -> None:
    params = run.params
    top_k, bins = params.evaluate.top_k, params.evaluate.calibration_bins
    records = Records.open(paths.RECORDS)
    test = records.index("test")
    labels, images = test.labels, test.images
    out_of_sample = read_out_of_sample(paths.OUT_OF_SAMPLE)

    from imgpipe.nn.common.runtime import configure_runtime  # first: it silences TensorFlow's start

    configure_runtime(params.arithmetic, native_threads=params.arithmetics.native.threads)
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.prediction import Predictor
    from imgpipe.nn.inference.explanation import activation_maps, feature_maps, first_kernels
    from imgpipe.nn.inference.loading import load_model_of_records

    model = load_model_of_records(paths.MODEL, records.info)
    forward = find_forward(params.arithmetic)
    with ProgressBar("evaluate", len(labels), "image") as bar:
        probabilities = Predictor(model, forward).predict(images, bar.update)
    numbers = choose_images(labels, probabilities)
    viewed = images[numbers]
    kernels, maps = first_kernels(model), activation_maps(model, viewed, forward)
    views = Views(numbers, viewed, kernels, maps, *feature_maps(model, viewed[0], forward))

    predictions = Predictions(records.info.classes, test.identities, labels, probabilities)
    scores = score_predictions(labels, probabilities, top_k=top_k, bins=bins)
    write_json(paths.TEST_METRICS, scores)
    _write_tables(predictions, records, out_of_sample, bins)
    write_predictions(paths.PREDICTIONS, predictions)
    write_views(paths.VIEWS, views)
    report(
        f"evaluate: {format_count(len(labels), 'test image')}, accuracy {scores['accuracy']:.4f}"
        f" (95 % interval {scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f})"
    )


def _write_tables(
    predictions: Predictions, records: Records, out_of_sample: OutOfSample, bins: int
) -> None:
    tables.write_class_scores(paths.CLASS_SCORES, predictions)
    tables.write_reliability(paths.RELIABILITY, predictions, bins)
    tables.write_mistakes(paths.MISTAKES, predictions)
    write_label_issues(paths.LABEL_ISSUES, records, out_of_sample, predictions)
    tables.write_roc(paths.ROC, predictions)


if __name__ == "__main__":
    run_stage(main, __doc__)
