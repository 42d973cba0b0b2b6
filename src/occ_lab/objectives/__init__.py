"""One-class objectives, one file a method."""
