"""The library behind the pipeline's stages.

Shapes, units and names, said once and used everywhere:

    N  examples      H  height      W  width      C  channels (1 grey, 3 red-green-blue)
    K  classes       B  bins

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

Floors (a module imports only from floors below it, `tests/test_structure.py` holds it):

    0  errors, files, params
    1  catalog, download, sources, images, splits, tfrecord, augmentation, scores, charts, parallel
    2  records
    3  nn (the only place that imports TensorFlow and Keras)
    4  the scripts in `src/`
"""
