"""Training tasks that need normal images alone."""
