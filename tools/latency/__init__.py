"""What tools/measure_latency.py measures."""
