"""Features of frozen networks: extraction, cache, cells, regions."""
