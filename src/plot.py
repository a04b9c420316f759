"""Stage 6, plot: draw the pictures, and write the model card. No TensorFlow.

Reads   `plot` in params.yaml; data/records, data/augmented, data/training, data/evaluation,
        data/thumbnails.npz; in metrics: data.json, history.csv, train.json, test.json,
        per_class.csv, reliability.csv. The card also reads all other parameters, the dataset's
        entry in data/catalog.yaml, models/layers.txt and the installed versions of the libraries in
        pyproject.toml
Writes  metrics/plots/*.png; metrics/report.html, the model card, and metrics/data.html, about the
        data: pages that need no other file
Costs   a few seconds; one pass over the test records for the gallery of mistakes
"""

from imgpipe.console.messages import format_count, report
from imgpipe.core.files import replace_directory
from imgpipe.core.paths import DATA_REPORT, PLOTS, REPORT, THUMBNAILS
from imgpipe.records.thumbnail_file import read_thumbnails
from imgpipe.running.stage import StageRun, run_stage


def main(run: StageRun) -> None:
    # Imported here: pandas and matplotlib take two seconds, and params.yaml is checked first.
    from imgpipe.reporting.charts.style import encode_figure
    from imgpipe.reporting.data_page import write_data_page
    from imgpipe.reporting.model_card import write_model_card
    from imgpipe.reporting.pictures import PICTURES
    from imgpipe.reporting.stage_outputs import read_outputs

    outputs = read_outputs(run.params)
    drawn = {}
    with replace_directory(PLOTS) as folder:
        for name, picture in PICTURES.items():
            if figure := picture.draw(outputs):
                drawn[name] = encode_figure(figure, run.params.plot.dpi)
                (folder / f"{name}.png").write_bytes(drawn[name])
    write_model_card(REPORT, outputs, drawn)
    write_data_page(DATA_REPORT, outputs.info.dataset, outputs.data, read_thumbnails(THUMBNAILS))
    pictures = format_count(len(drawn), "picture")
    report(f"plot: {pictures} in {PLOTS.as_posix()}; model card: {REPORT.as_posix()}")
    report(f"plot: about the data: {DATA_REPORT.as_posix()}")


if __name__ == "__main__":
    run_stage(main, __doc__)
