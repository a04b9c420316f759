"""The logits of a network: the input of the softmax, its last layer."""

import keras


def make_logits_model(model: keras.Model) -> keras.Model:
    """Return the part of a network that ends before the softmax; the weights are shared."""
    return keras.Model(model.input, model.layers[-1].input, name="logits")


def add_temperature(model: keras.Model, temperature: float) -> keras.Model:
    """Return a network that divides its logits by a temperature; the weights are shared."""
    softmax = model.layers[-1]
    scaling = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")
    probabilities = type(softmax).from_config(softmax.get_config())(scaling(softmax.input))
    return keras.Model(model.input, probabilities, name=model.name)
