"""A detector as a local service: images in, scores, decisions and a page out."""
