"""A classifier on a pretrained network: features, and a regression on the features."""
