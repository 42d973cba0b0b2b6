"""The report over many runs."""
