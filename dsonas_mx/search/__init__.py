"""Section 3.3, Algorithm 1: λ by direct sparse optimisation, its budgets and its ends."""
