"""The outputs of `train`."""

from imgpipe.core.files import write_text
from imgpipe.core.paths import LAYERS, MODEL, OUT_OF_SAMPLE, TRAINING_EXAMPLES
from imgpipe.nn.common.model_signature import ModelSignature
from imgpipe.nn.fitting.examples import draw_examples
from imgpipe.nn.fitting.fitted_model import FittedModel, collect_out_of_sample
from imgpipe.nn.fitting.history import write_metrics
from imgpipe.nn.fitting.layer_table import describe_layers
from imgpipe.nn.fitting.saved_model import save_model
from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.info import RecordsInfo
from imgpipe.records.npz_file import write_npz


def write_outputs(fitted: FittedModel, info: RecordsInfo, images: TrainingSet) -> None:
    """Write the network, its layers, its metrics, and what later stages show and measure."""
    write_metrics(fitted.history, fitted.model.count_params(), fitted.temperature)
    save_model(fitted.model, ModelSignature.of_records(info), MODEL)
    write_text(LAYERS, describe_layers(fitted.model))
    examples = draw_examples(images, fitted.random_transformation)
    write_npz(TRAINING_EXAMPLES, examples._asdict())
    write_npz(OUT_OF_SAMPLE, collect_out_of_sample(fitted, images.sample)._asdict())
