"""Speed of whole runs and of exported detectors; not part of the wheel."""
