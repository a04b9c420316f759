"""The datasets in the catalog, and how their files get to `data/raw`."""
