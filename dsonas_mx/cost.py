"""Parameters and multiply-adds: of a network, a block, an operation, a connection.

Parameters are the weights, biases, and gamma and beta of every BN; moving statistics, λ and the
auxiliary tower are not counted. Multiply-adds are those of convolutions and the classifier.

Every piece is a function of its shape alone: C channels, maps of side S (square, so S² pixels).

The published sizes of the complete share-scope supernets count λ too: 10,031,002 + 124 + 4 =
10,031,130 for CIFAR and 12,459,558 + 124 + 6 = 12,459,688 for ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable

from .architecture import Architecture, Branches
from .space import OUTPUT, Connection, SearchSpace, halved


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
    """

    parameters: int = 0
    multiply_adds: int = 0
    connections: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.connections + other.connections,
        )


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of `costs`."""
    return sum(costs, Cost())


# Layers


def convolution(inputs: int, outputs: int, kernel: int, side: int, groups: int = 1) -> Cost:
    """A convolution without bias, with an output of side S: O·(I/g)·k² weights, × S² uses."""
    weights = outputs * (inputs // groups) * kernel**2
    return Cost(weights, weights * side**2)


def batch_norm(channels: int) -> Cost:
    """Gamma and beta: 2C."""
    return Cost(2 * channels)


def conv_bn(inputs: int, outputs: int, kernel: int, side: int) -> Cost:
    """Convolution, BN (and a ReLU, which is free)."""
    return convolution(inputs, outputs, kernel, side) + batch_norm(outputs)


def dense(inputs: int, outputs: int) -> Cost:
    """A fully connected layer with bias: I·O + O parameters, I·O multiply-adds."""
    return Cost(inputs * outputs + outputs, inputs * outputs)


# A block


def operation(name: str, channels: int, side: int) -> Cost:
    """One operation of a block, with its BN: C·k² + C² + 2C if separable, 2C if it pools."""
    cost = batch_norm(channels)
    if name.startswith("sep"):
        kernel = int(name[len("sep") :])
        cost += convolution(channels, channels, kernel, side, groups=channels)
        cost += convolution(channels, channels, 1, side)
    return cost


def connection(edge: Connection, channels: int, side: int) -> Cost:
    """One connection: a 1×1 convolution, C², if it goes to the output; a sum is free."""
    cost = Cost(connections=1)
    return cost + convolution(channels, channels, 1, side) if edge.target == OUTPUT else cost


def block(
    architecture: Architecture, structure: int, channels: int, side: int, first: bool
) -> Cost:
    """One block: its shortcut, live operations, kept connections and the BN of their sum.

    The `first` block of a stage has a convolution on its shortcut; a block with nothing left is
    its shortcut, and has no BN at the output.
    """
    space = architecture.space
    nodes = architecture.live_nodes(structure)
    edges = [edge for edge, kept in zip(space.connections, architecture.kept[structure]) if kept]
    return (
        (conv_bn(channels, channels, 1, side) if first else Cost())
        + total(operation(node.split(".")[1], channels, side) for node in nodes)
        + total(connection(edge, channels, side) for edge in edges)
        + (batch_norm(channels) if nodes else Cost())
    )


# The network


def stem(space: SearchSpace) -> Cost:
    """conv3×3 to the width, or two of stride 2 by way of half the width; each with BN."""
    inputs, width, side = space.in_channels, space.width, space.image_size
    if space.stem == "cifar":
        return conv_bn(inputs, width, 3, side)
    first = conv_bn(inputs, width // 2, 3, halved(side))
    return first + conv_bn(width // 2, width, 3, halved(halved(side)))


def reduction(channels: int, side: int, branches: Branches) -> Cost:
    """The live ones of conv1×1/2 and conv3×3/2 with BN, from C channels of side S to 2C."""
    return total(
        conv_bn(channels, 2 * channels, kernel, halved(side))
        for kernel, lives in zip((1, 3), branches)
        if lives
    )


def classifier(channels: int, classes: int) -> Cost:
    """BN, global pooling and a fully connected layer."""
    return batch_norm(channels) + dense(channels, classes)


def count(architecture: Architecture) -> Cost:
    """The derived network, in the space of `architecture`."""
    space = architecture.space
    shapes = space.stage_shapes
    blocks = total(
        block(architecture, space.structure_of(index), *shapes[stage - 1], first=position == 1)
        for index, (stage, position) in enumerate(space.block_positions)
    )
    reductions = total(
        reduction(*shape, branches) for shape, branches in zip(shapes, architecture.reductions)
    )
    network = stem(space) + blocks + reductions + classifier(shapes[-1][0], space.num_classes)
    return replace(network, connections=architecture.num_connections)


def count_lambdas(space: SearchSpace) -> int:
    """The scales of the supernet: of every structure, and two a reduction."""
    return space.num_connections + 2 * space.num_reductions
