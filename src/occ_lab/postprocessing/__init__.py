"""From score maps to image scores and anomaly maps."""
