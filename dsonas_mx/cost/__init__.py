"""Section 3.4: what networks cost: parameters, multiply-adds, memory access."""
