"""The schema of `params.yaml`, one module for each section."""
