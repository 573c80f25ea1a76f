"""From a trained network to files that serve it, and back to predictions."""
