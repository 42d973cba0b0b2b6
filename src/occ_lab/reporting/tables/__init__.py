"""The tables that commands print at the end."""
