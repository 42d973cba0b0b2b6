"""What a run leaves behind: records, tables, pictures, tracking."""
