"""Computation of image scores and anomaly maps from score maps."""
