"""From score maps to image scores and metrics."""
