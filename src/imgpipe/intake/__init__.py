"""A person's folder or archives become a dataset."""
