"""Benchmarks: which images a one-class task has, and how they are read."""
