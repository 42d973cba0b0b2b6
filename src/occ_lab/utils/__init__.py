"""Helpers that every room uses: files, memory, processes, errors, plain data."""
