"""Export of detectors to files that other runtimes can run."""
