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
    count_parameters,
    fitted,
    load_network,
    print_dry_run,
)
from .parser import Parser, first_line, number, progress, run
from .run_folder import add_run, open_run, train
from .segmentation import (
    add_scenes,
    backbone_digest,
    data_name,
    known_classes,
    num_train,
    parse_stages,
    print_scene_dry_run,
    take_backbone,
)

__all__ = [
    "Parser",
    "add_budget",
    "add_data",
    "add_devices",
    "add_memory",
    "add_network",
    "add_run",
    "add_scenes",
    "augmentation",
    "backbone_digest",
    "budget",
    "count_parameters",
    "data_name",
    "data_set",
    "first_line",
    "fitted",
    "known_classes",
    "load_images",
    "load_network",
    "load_search_images",
    "num_train",
    "number",
    "open_run",
    "origin",
    "parse_split",
    "parse_stages",
    "print_dry_run",
    "print_scene_dry_run",
    "progress",
    "run",
    "take_backbone",
    "train",
]
