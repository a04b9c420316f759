"""Several runs: where they came from, how they compare."""
