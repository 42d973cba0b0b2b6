"""Training of a backbone before an objective: representations from normal images."""
