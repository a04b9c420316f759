"""A function over shards: in this process, in several, or on a Dask cluster."""
