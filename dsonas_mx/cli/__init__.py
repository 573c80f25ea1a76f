"""What the command lines of all scripts share."""

from .budgets import add_budget, budget, mobile_budget
from .data import (
    add_data,
    augmentation,
    data_set,
    load_images,
    load_search_images,
    origin,
    parse_split,
)
from .fit import train_to_end
from .imagenet import (
    Skipped,
    add_imagenet,
    imagenet,
    load_imagenet_network,
    test_loader,
    train_loaders,
    write_parts,
)
from .network import (
    add_devices,
    add_dtype,
    add_memory,
    add_network,
    check_dtype,
    count_parameters,
    fitted,
    load_network,
    print_dry_run,
)
from .parser import Parser, first_line, number, progress, run
from .run_folder import add_run, open_run, train
from .search import add_search, search_settings, search_to_end

__all__ = [
    "Parser",
    "Skipped",
    "add_budget",
    "add_data",
    "add_devices",
    "add_dtype",
    "add_imagenet",
    "add_memory",
    "add_network",
    "add_run",
    "add_search",
    "augmentation",
    "budget",
    "check_dtype",
    "count_parameters",
    "data_set",
    "first_line",
    "fitted",
    "imagenet",
    "load_images",
    "load_network",
    "load_search_images",
    "load_imagenet_network",
    "mobile_budget",
    "number",
    "open_run",
    "origin",
    "parse_split",
    "print_dry_run",
    "progress",
    "run",
    "search_settings",
    "search_to_end",
    "test_loader",
    "train",
    "train_loaders",
    "train_to_end",
    "write_parts",
]
