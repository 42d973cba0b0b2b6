"""Explanations of scores: which parts of an image raise its score."""
