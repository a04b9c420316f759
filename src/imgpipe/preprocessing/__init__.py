"""Raw files → records."""
