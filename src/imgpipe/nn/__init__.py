"""Networks: the only place that imports TensorFlow and Keras.

Importing this package configures nothing; `configure_runtime` does, once, before any tensor exists.
"""
