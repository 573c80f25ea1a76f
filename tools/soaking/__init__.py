"""What `tools/soak.py` kills, and how."""
