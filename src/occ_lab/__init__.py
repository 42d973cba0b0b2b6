"""OCC Lab: one-class classification and visual anomaly detection."""

__version__ = "0.1.0"
