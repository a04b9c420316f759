"""Numbers → pictures and pages."""
