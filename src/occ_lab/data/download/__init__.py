"""Benchmarks that can be downloaded."""
