"""What a network, a block, an operation, a connection costs, from the architecture alone.

Parameters are the weights, biases, and gamma and beta of every BN; moving statistics, λ and the
auxiliary tower are not counted. Multiply-adds are those of convolutions and the classifier.

Memory access (MAC, section 3.4) is what the operators of the found network read and write for one
image, in numbers (times four for bytes), by these rules:

- A convolution, and the classifier, reads its map, its weights and bias, and writes its map. A
  depthwise and a pointwise convolution are two: the map between them is written and read again.
- A pool reads a map and writes one. A sum of n maps reads n and writes one; operations of a level
  that stand side by side and have the same sources share their sum, as in the network. The
  output's 1×1 convolution reads the concatenation, which was read and written before if it is of
  more than one map.
- BN and ReLU count nothing: they are done where the map is written. So do flattening and dropout.
- A map is read whole, also by a 1×1 convolution of stride 2.

`traced.count_symbol` counts the same on any traced network, operator by operator.

Every piece is a function of its shape alone: C channels, maps of side S (square, so S² pixels).

The published sizes of the complete share-scope supernets count λ too: 10,031,002 + 124 + 4 =
10,031,130 for CIFAR and 12,459,558 + 124 + 6 = 12,459,688 for ImageNet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Dict, Iterable, Iterator

from ..space.architecture import Architecture
from ..space.masks import Branches
from ..space.normal import OUTPUT, Connection, SearchSpace, halved
from ..space.operations import TABLE


@dataclass(frozen=True)
class Cost:
    """What a piece costs; costs add up.

    Attributes
    ----------
    parameters : int
    multiply_adds : int
        For one image.
    connections : int
        Surviving connections: of the one block in the share scope, summed over the blocks in
        the full scope. Reductions have none.
    memory_access : int
        Numbers read and written for one image.
    """

    parameters: int = 0
    multiply_adds: int = 0
    connections: int = 0
    memory_access: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.connections + other.connections,
            self.memory_access + other.memory_access,
        )


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of `costs`."""
    return sum(costs, Cost())


# Layers


def convolution(
    inputs: int, outputs: int, kernel: int, side: int, groups: int = 1, stride: int = 1
) -> Cost:
    """A convolution without bias of a map of side S: O·(I/g)·k² weights, each used ⌈S/stride⌉²
    times; it reads I·S² and the weights, and writes O·⌈S/stride⌉².
    """
    weights = outputs * (inputs // groups) * kernel**2
    pixels = math.ceil(side / stride) ** 2
    return Cost(
        weights, weights * pixels, memory_access=inputs * side**2 + weights + outputs * pixels
    )


def batch_norm(channels: int) -> Cost:
    """Gamma and beta: 2C."""
    return Cost(2 * channels)


def conv_bn(inputs: int, outputs: int, kernel: int, side: int, stride: int = 1) -> Cost:
    """Convolution, BN (and a ReLU, which is free)."""
    return convolution(inputs, outputs, kernel, side, stride=stride) + batch_norm(outputs)


def dense(inputs: int, outputs: int) -> Cost:
    """A fully connected layer with bias: I·O + O parameters, I·O multiply-adds."""
    parameters = inputs * outputs + outputs
    return Cost(parameters, inputs * outputs, memory_access=inputs + parameters + outputs)


def maps(count: int, channels: int, side: int) -> Cost:
    """Reading or writing so many maps: C·S² each."""
    return Cost(memory_access=count * channels * side**2)


def summed(count: int, channels: int, side: int) -> Cost:
    """A sum of maps: all are read, one is written; nothing if it is of one."""
    return maps(count + 1, channels, side) if count > 1 else Cost()


# A block


def operation(name: str, channels: int, side: int) -> Cost:
    """One operation of a block, with its BN: C·k² + C² + 2C if separable, 2C if it pools."""
    row, cost = TABLE[name], batch_norm(channels)
    if row.is_separable:
        cost += convolution(channels, channels, row.kernel, side, groups=channels)
        return cost + convolution(channels, channels, 1, side)
    return cost + maps(2, channels, side)


def connection(edge: Connection, channels: int, side: int) -> Cost:
    """One connection by itself: one more map to read in a sum, or a 1×1 convolution, C², to the
    output, as in Eq. 2 before the convolutions of all operations are made one.
    """
    cost = Cost(connections=1)
    if edge.target == OUTPUT:
        return cost + convolution(channels, channels, 1, side)
    return cost + maps(1, channels, side)


def output(count: int, channels: int, side: int) -> Cost:
    """The output of a block of so many operations: concatenation, 1×1 convolution, BN."""
    concatenated = maps(2 * count, channels, side) if count > 1 else Cost()
    return concatenated + conv_bn(count * channels, channels, 1, side)


def block(
    architecture: Architecture, structure: int, channels: int, side: int, first: bool
) -> Cost:
    """One block: its shortcut, live operations, their sums, the output, the sum with the shortcut.

    The `first` block of a stage has a convolution on its shortcut; a block with nothing left is
    its shortcut, and has no BN at the output.
    """
    shortcut = conv_bn(channels, channels, 1, side) if first else Cost()
    nodes = architecture.live_nodes(structure)
    if not nodes:
        return shortcut
    return (
        Cost(connections=sum(architecture.kept[structure]))
        + shortcut
        + total(operation(node.split(".")[1], channels, side) for node in nodes)
        + total(summed(count, channels, side) for count in _sums(architecture, structure))
        + output(len(architecture.live_sources(structure, OUTPUT)), channels, side)
        + summed(2, channels, side)
    )


def _sums(architecture: Architecture, structure: int) -> Iterator[int]:
    """How many maps each sum of a block is of; neighbours of one level share theirs."""
    nodes = architecture.live_nodes(structure)
    sources = [(node.split(".")[0], architecture.live_sources(structure, node)) for node in nodes]
    return (len(shared) for (_, shared), _ in groupby(sources))


# The network


def stem(space: SearchSpace) -> Cost:
    """conv3×3 to the width, or two of stride 2 by way of half the width; each with BN."""
    inputs, width, side = space.in_channels, space.width, space.image_size
    if space.stem == "cifar":
        return conv_bn(inputs, width, 3, side)
    first = conv_bn(inputs, width // 2, 3, side, stride=2)
    return first + conv_bn(width // 2, width, 3, halved(side), stride=2)


def reduction(channels: int, side: int, branches: Branches, stride: int = 2) -> Cost:
    """The sum of the live ones of conv1×1/2 and conv3×3/2 with BN, from C channels to 2C; the last
    one of a backbone for segmentation has stride 1.
    """
    live = [kernel for kernel, lives in zip((1, 3), branches) if lives]
    return total(
        conv_bn(channels, 2 * channels, kernel, side, stride=stride) for kernel in live
    ) + summed(len(live), 2 * channels, math.ceil(side / stride))


def classifier(channels: int, classes: int, side: int = 1) -> Cost:
    """BN, global pooling of a map of side S, and a fully connected layer."""
    pooling = maps(1, channels, side) + maps(1, channels, 1)
    return batch_norm(channels) + pooling + dense(channels, classes)


def parts(architecture: Architecture, dilated: bool = False) -> Dict[str, Cost]:
    """The stem, each block and reduction, and the classifier, in the order of the network.

    Parameters
    ----------
    dilated : bool
        A backbone for segmentation: the last stage has maps of the size of those before it, and
        BN but no classifier behind it.
    """
    space = architecture.space
    shapes = list(space.stage_shapes)
    if dilated:
        shapes[-1] = (shapes[-1][0], shapes[-2][1])
    costs = {"stem": stem(space)}
    for index, (stage, position) in enumerate(space.block_positions):
        if position == 1 and stage > 1:
            stride = 1 if dilated and stage == len(shapes) else 2
            costs[f"reduction {stage - 1}"] = reduction(
                *shapes[stage - 2], architecture.reductions[stage - 2], stride
            )
        costs[f"stage {stage}, block {position}"] = block(
            architecture, space.structure_of(index), *shapes[stage - 1], first=position == 1
        )
    channels, side = shapes[-1]
    if dilated:
        costs["end"] = batch_norm(channels)
    else:
        costs["classifier"] = classifier(channels, space.num_classes, side)
    return costs


def count(architecture: Architecture) -> Cost:
    """The derived network, in the space of `architecture`."""
    whole = total(parts(architecture).values())
    return replace(whole, connections=architecture.num_connections)


def count_lambdas(space: SearchSpace) -> int:
    """The scales of the supernet: of every structure, and two a reduction."""
    return space.num_connections + 2 * space.num_reductions
