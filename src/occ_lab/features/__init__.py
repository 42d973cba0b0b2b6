"""Frozen networks and what they make of an image."""
