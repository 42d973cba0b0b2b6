"""Detectors as files that other runtimes score images with."""
