"""A detector out of a run directory, and new images."""
