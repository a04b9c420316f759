"""TensorFlow code that training and inference share."""
