"""The paper's tables as experiments."""
