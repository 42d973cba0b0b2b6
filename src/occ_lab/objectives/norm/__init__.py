"""The norm-space objective and its theory."""
