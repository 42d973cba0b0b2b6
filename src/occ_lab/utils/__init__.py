"""Files, memory, processes."""
