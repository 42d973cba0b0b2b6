"""What a run writes, prints and draws."""
