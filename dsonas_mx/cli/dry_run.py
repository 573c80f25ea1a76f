"""What a run takes, printed before it allocates or needs any data."""

import math
from dataclasses import asdict
from typing import Any, Callable, Iterable, Sequence, Tuple

from mxnet.gluon import HybridBlock, Parameter

from ..cost.network import count_network
from ..cost.traced import Cost
from ..engine.graph import TrainGraph
from ..engine.setup import Setup
from ..engine.tracing import PROGRESS
from ..search.options import Split
from ..search.search import check_turns, turns
from ..space.architecture import listed
from ..space.mobile_architecture import AnyArchitecture
from ..training.loss import cross_entropy
from .segmentation_options import SceneOptions


def planned(
    setup: Setup,
    net: HybridBlock,
    loss: Callable[..., Any],
    data: Sequence[int],
    label: Sequence[int],
) -> TrainGraph:
    """The graph of a network for such batches, with its plan; or the error of what does not fit."""
    graph = TrainGraph(net, loss, data, label, setup.contexts, setup.recompute, setup.dtype)
    graph.plan  # noqa: B018
    return graph


def _print_memory(graph: TrainGraph, wide: int, aside: str = "") -> None:
    print(f"MB a device    {graph.footprint.total:>{wide},.0f}{aside}")
    for name, size in asdict(graph.footprint).items():
        print(f"  {name:13}{size:>{wide},.0f}")
    print(f"recomputation: {graph.describe_plan()}")


def print_dry_run(
    setup: Setup,
    net: HybridBlock,
    architecture: AnyArchitecture,
    batch_size: int,
    steps: int,
    loss: Callable[..., Any] = cross_entropy,
    notes: Sequence[str] = (),
) -> None:
    """Of a classifier: parameters, depth, width, connections, multiply-adds, MB, steps an epoch.

    `notes` are what is to be said first.
    """
    space = architecture.space
    shape = (batch_size, space.in_channels, space.image_size, space.image_size)
    graph = planned(setup, net, loss, shape, shape[:1])
    for line in notes:
        print(line)
    total = count_parameters(net)
    deployed = total - _count(p for p in net.collect_params().items() if "auxiliary" in p[0])
    print(f"parameters     {total:>14,}")
    if deployed < total:
        print(f"  without tower{deployed:>14,}")
    print(f"blocks a stage {listed(space.blocks):>14}")
    print(f"width of each  {listed(space.widths):>14}")
    print(f"connections    {architecture.num_connections:>14,}")
    print(f"multiply-adds  {count_network(architecture).multiply_adds:>14,}")
    _print_memory(graph, 14)
    print(f"steps an epoch {steps:>14,}")


def print_scene_dry_run(
    setup: Setup,
    net: HybridBlock,
    loss: Callable[..., Any],
    cost: Cost,
    data: SceneOptions,
    steps: Sequence[int],
    parameters: str = "",
    memory: str = "",
) -> None:
    """Of a segmentation network.

    `parameters` and `memory` are what to print beside them of the paper's.
    """
    batch, crop = data.batch_size, data.crop
    graph = planned(setup, net, loss, (batch, 3, crop, crop), (batch, crop, crop))
    print(f"parameters     {cost.parameters:>16,}{_aside(parameters)}")
    print(f"multiply-adds  {cost.multiply_adds:>16,}")
    _print_memory(graph, 16, _aside(memory))
    print(f"steps an epoch {', '.join(f'{count:,}' for count in steps):>16}")


def _aside(text: str) -> str:
    return f"  ({text})" if text else ""


def count_parameters(net: HybridBlock) -> int:
    """Weights, biases, BN scales (fixed ones too) and shifts, λ; no moving statistics."""
    return _count(net.collect_params().items())


def _count(parameters: Iterable[Tuple[str, Parameter]]) -> int:
    counted = [p for name, p in parameters if "_running_" not in name and name != PROGRESS]
    return sum(math.prod(p.shape) for p in counted)


# Steps an epoch, refused where there is none


def fit_steps(batch_size: int, num_train: int) -> int:
    """Steps an epoch of a training on so many images, at least 1."""
    if num_train < batch_size:
        raise ValueError(
            f"a part of {num_train:,} images is smaller than one batch of {batch_size:,}; "
            "use a smaller batch size or more images"
        )
    return num_train // batch_size


def search_steps(batch_size: int, num_train: int, parts: Split) -> int:
    """Steps an epoch of a search on so many images, at least 1."""
    ratio = parts or (1,)
    batches = [fit_steps(batch_size, num_train * part // sum(ratio)) for part in ratio]
    check_turns(batches[0], batches[-1], parts)
    return len(turns(batches[0], batches[-1], parts))
