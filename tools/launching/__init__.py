"""Processes of one training on several machines: see tools/launch.py."""
