"""The library behind the pipeline's stages.

Shapes, units and names, said once and used everywhere:

    N  examples      H  height      W  width      C  channels (1 gray, 3 red-green-blue)
    K  classes       B  batch

    images         (N, H, W, C)  uint8 in [0, 255]
    labels         (N,)          int64 in [0, K)
    probabilities  (N, K)        float32, rows sum to 1
    confusion      (K, K)        int64, [actual, predicted]

    identity       the text that leads from a record back to the file it came from
    split          one of "train", "validation", "test"
    shard          one TFRecord file, a part of a split
    variant        0 for an original training image, 1, 2, ... for its augmented copies

Suffixes of names give the unit: _px pixels, _deg degrees, _frac a fraction of one, _s seconds,
_bytes, _mib mebibytes, _epochs, _steps.

CONTRIBUTING.md has the packages, and which package may import which.
"""
