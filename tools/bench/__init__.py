"""The measurements of `tools/benchmark.py`, one a module: `arguments` and `measure`."""
