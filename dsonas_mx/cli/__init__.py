"""What the command lines of all scripts share."""

from .budgets import add_budget, budget
from .data import (
    add_data,
    augmentation,
    data_set,
    load_images,
    load_search_images,
    origin,
    parse_split,
)
from .network import (
    add_devices,
    add_memory,
    add_network,
    connect,
    count_parameters,
    fitted,
    load_network,
    print_dry_run,
)
from .parser import Parser, first_line, number, progress, run
from .run_folder import add_run, open_run, train

__all__ = [
    "Parser",
    "add_budget",
    "add_data",
    "add_devices",
    "add_memory",
    "add_network",
    "add_run",
    "augmentation",
    "budget",
    "connect",
    "count_parameters",
    "data_set",
    "first_line",
    "fitted",
    "load_images",
    "load_network",
    "load_search_images",
    "number",
    "open_run",
    "origin",
    "parse_split",
    "print_dry_run",
    "progress",
    "run",
    "train",
]
