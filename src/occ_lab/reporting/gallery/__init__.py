"""A page to look at scored images, to move the threshold, and to mark what was judged wrongly."""
