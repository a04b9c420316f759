"""The table of a network's layers, `models/layers.txt`."""

import keras


def describe_layers(model: keras.Model) -> str:
    """Return the table of layers: name, kind, output shape, parameters, and their total."""
    rows = [("layer", "kind", "output shape", "parameters")]
    for layer in model.layers:
        shape = " x ".join(str(size) for size in layer.output.shape[1:])
        rows.append((layer.name, type(layer).__name__, shape, f"{layer.count_params():,}"))
    trainable = sum(int(weights.numpy().size) for weights in model.trainable_weights)
    rows += [
        ("total", "", "", f"{model.count_params():,}"),
        ("trainable", "", "", f"{trainable:,}"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:<{widths[2]}}  {count:>{widths[3]}}"
        for name, kind, shape, count in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-2], rule, *lines[-2:]]) + "\n"
