"""Loading a detector from a run directory, and scoring new images with it."""
