"""Stage 3, augment: write randomly transformed copies of the training records.

Reads   `augment` in params.yaml, the training split in data/records
Writes  data/augmented: for each copy a folder of shards, and info.json
Costs   one pass over the training images for each copy, in parallel; constant memory
"""

from imgpipe.augmentation.copies import write_copies
from imgpipe.console.messages import format_count, report
from imgpipe.core.files import replace_directory
from imgpipe.core.paths import AUGMENTED, RECORDS
from imgpipe.records.folders import Records
from imgpipe.running.stage import StageRun, run_stage


def main(run: StageRun) -> None:
    records = Records.open(RECORDS)
    with replace_directory(AUGMENTED) as folder:
        write_copies(records, run.params.augment, folder)
    images, copies = records.info.splits["train"].examples, run.params.augment.copies
    if not copies:
        report("augment: no copies, because augment.copies is 0 in params.yaml")
        return
    report(
        f"augment: {format_count(copies, 'copy', 'copies')} of each of"
        f" {format_count(images, 'training image')}: {format_count(copies * images, 'image')}"
    )


if __name__ == "__main__":
    run_stage(main, __doc__)
