"""The comparisons of `tools/compare.py`, one a module: `arguments`, `measure` and `text`."""
