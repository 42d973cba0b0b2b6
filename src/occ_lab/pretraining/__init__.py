"""Training of a backbone before the objective: representations from normal images."""
