"""Zip and tar archives, folders and addresses: list and read their members."""
