"""The authors' release: its names, spaces, checkpoints and reference values."""
