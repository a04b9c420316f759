"""Records → randomly transformed copies."""
