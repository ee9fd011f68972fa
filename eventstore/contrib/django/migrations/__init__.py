"""One migration for each file of sql/, and no more."""
