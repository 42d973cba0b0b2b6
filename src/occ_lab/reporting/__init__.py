"""Records, terminal tables, pictures and reports of runs."""
