"""Which datasets exist, and how their files get to `data/raw`."""
