"""A run is a folder: its files, checkpoints, sessions."""
