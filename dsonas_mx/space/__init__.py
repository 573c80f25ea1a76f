"""Section 3.1: what can be found, and what was."""
