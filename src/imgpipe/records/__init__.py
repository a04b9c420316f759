"""The format between the stages: TFRecord shards and `info.json`."""
