"""The workflows behind the commands, one file for each."""
