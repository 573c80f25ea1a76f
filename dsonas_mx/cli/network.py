"""The network that options ask for: a file's or a baseline's, at a size."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

from ..cost import baseline
from ..cost.width import Measure, Target, fit_width, multiply_adds, parameters
from ..data import DataSet
from ..io.options import number
from ..space.architecture import Architecture, listed
from ..space.mobile_architecture import AnyArchitecture, MobileArchitecture, load_architecture
from ..space.normal import SearchSpace, parse_blocks
from .options import NetworkOptions
from .run import recorded

PAPER = {"cifar": ("target_params", "3.0M"), "imagenet": ("target_flops", "600M")}  # by the stem
Say = Callable[[str], None]


def load_network(
    options: Any,
    space: SearchSpace,
    data: DataSet,
    latency: Measure,
    find: Callable[[str], str] = str,
    say: Say = print,
) -> Tuple[AnyArchitecture, Any]:
    """The architecture that the options ask for, for images of that data set; and the options,
    with the size and depth that they leave to the paper.

    What a file is changed to, in width or depth, is also what a baseline is made like.

    Parameters
    ----------
    space : SearchSpace
        The paper's: of a baseline without a file, and of what was found on CIFAR for ImageNet.
    latency : callable
        Milliseconds of the network of an architecture, for a target of latency.
    find : callable
        The file of a name.
    say : callable
        Gets a line about the width that a target chose.
    """
    given: NetworkOptions = options.network
    if given.architecture and given.like:
        raise ValueError("`like` is for `random` and `full_network`")
    if given.architecture:
        options = options.but("network", architecture=find(given.architecture))
    file = options.network.architecture or given.like
    found = load_architecture(file) if file else Architecture.complete(space)
    if isinstance(found, MobileArchitecture):
        _check_mobile(given, space)
        return found.with_space(**data.images()), options
    if space.stem == "imagenet" != found.space.stem:  # found on CIFAR
        found = found.transferred_to(space)
    options = _complete(options, found.space, space)
    return _sized(options, found.with_space(**data.images()), latency, say), options


def _sized(options: Any, network: Architecture, latency: Measure, say: Say) -> Architecture:
    given: NetworkOptions = options.network
    if given.blocks is not None:
        blocks = parse_blocks(given.blocks, len(network.space.blocks))
        network = network.with_space(blocks=blocks)
    if given.architecture or given.like:
        found = fitted(network, given, latency, say)
        seed = options.data.seed
        return found if given.architecture else baseline.like(found, given.random, seed)
    if given.full_network:
        return fitted(network, given, latency, say)
    assert given.random is not None  # one of the three is required
    space = replace(network.space, scope=given.random)
    if given.target_params is not None:
        most = given.target_params
        divisor = 1 if given.divisor is None else given.divisor
        return baseline.random_within(space, options.data.seed, most, divisor)
    return fitted(baseline.random_network(space, options.data.seed), given, latency, say)


def _check_mobile(given: NetworkOptions, space: SearchSpace) -> None:
    if space.stem != "imagenet":
        raise ValueError(
            f"{given.architecture or given.like} is of the mobile setting: give one "
            "of the normal setting, or train it on ImageNet"
        )
    names = "width target_params target_flops target_latency divisor blocks like"
    for name in names.split():
        if getattr(given, name) is not None:
            raise ValueError(
                f"`{name}` is not for the mobile setting, whose skeleton is fixed: leave it out"
            )


def _complete(options: Any, space: SearchSpace, paper: SearchSpace) -> Any:
    """The options with the paper's size, unless they, or those of a run that goes on, speak
    against it.

    With it goes the paper's depth, where all blocks are one: what a small search found in a block
    a stage would else become three very wide ones.
    """
    name, text = PAPER[paper.stem]
    given: NetworkOptions = options.network
    if options.data.demo or given.like or given.has_size:
        return options
    size, before = number(text), recorded(options.run)
    if before is not None and before.get(name) != size:
        return options
    blocks = given.blocks
    if blocks is None and before is not None:
        blocks = before.get("blocks")
    elif blocks is None and space.scope == "share" and space.blocks != paper.blocks:
        blocks = listed(paper.blocks)
    return options.but("network", blocks=blocks, **{name: size})


def fitted(
    architecture: Architecture, given: NetworkOptions, latency: Measure, say: Say
) -> Architecture:
    """The architecture of the width of the options, or of that which a target chooses."""
    for unit, most, measure in (
        ("parameters", given.target_params, parameters),
        ("multiply-adds", given.target_flops, multiply_adds),
        ("ms", given.target_latency, latency),
    ):
        if most is not None:
            target = Target(unit, most, measure)
            divisor = 1 if given.divisor is None else given.divisor
            architecture = fit_width(architecture, target, divisor)
            say(target.describe(architecture))
            return architecture
    if given.divisor is not None:
        raise ValueError(
            "`divisor` is of the width that a target chooses: give a target, or leave it out"
        )
    return architecture if given.width is None else architecture.with_space(width=given.width)


def load_backbone(
    options: Any, images: Dict[str, int], find: Callable[[str], str]
) -> Tuple[Optional[Architecture], Any]:
    """The architecture of a segmentation network's backbone, None for a baseline's; and the
    options with its file.
    """
    given = options.network
    if given.model is not None:
        return None, options
    source = given.architecture and find(given.architecture)
    options = options.but("network", architecture=source)
    if source is None and given.backbone is not None:
        source = Path(given.backbone) / "architecture.json"
        if not source.is_file():
            raise FileNotFoundError(f"{source}: not there; give --architecture FILE as well")
    if source is None:
        raise ValueError("which network? Give --architecture FILE, --model, or --backbone RUN")
    found = load_architecture(source)
    if isinstance(found, MobileArchitecture):
        raise ValueError(f"{source} is of the mobile setting: give one of the normal setting")
    if found.space.stem != "imagenet":  # found on CIFAR
        found = found.transferred_to(SearchSpace.imagenet())
    changes: Dict[str, Any] = dict(images)
    if given.width is not None:
        changes["width"] = given.width
    if given.blocks is not None:
        changes["blocks"] = parse_blocks(given.blocks, len(found.space.blocks))
    return found.with_space(**changes), options
