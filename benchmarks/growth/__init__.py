"""How time and memory grow with images, pixels, channels, cells, classes and jobs."""
