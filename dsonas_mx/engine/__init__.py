"""How a step runs: graphs, recomputation, devices, workers."""
