"""A weighted block in as few calls of a GPU as MXNet's operators allow; the same function.

A call costs a GPU some microseconds, whatever it computes: separable convolutions of a level are
one depthwise convolution, with the largest of their kernels, and one grouped pointwise convolution;
the BNs of a level are one over its stacked maps; and what these need of the parameters, and every
λ, is an array of its own (see `dsonas_mx.engine.derived`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple

from dsonas_mx.engine.derived import Derived
from dsonas_mx.space.normal import INPUT

import numpy as np

from .operations import (
    BN_EPSILON,
    BN_MOMENTUM,
    Map,
    Parameters,
    added,
    batch_norm_relu,
    convolution,
    filtered,
    kernel_of,
    mixed,
    operation_weights,
    spread,
)

if TYPE_CHECKING:
    from .block import LiveLevel, LiveNode


@dataclass(frozen=True)
class FewestCalls:
    """How to compute a block, or a reduction, that is traced with derived inputs.

    Parameters
    ----------
    F : mx.sym
    derived : Derived
    p : dict of str to Symbol
    prefix : str
        Of the parameters' names.
    channels : int
        Of each operation.
    fix : bool
        Whether scales of BN are fixed to one.
    dilation : int
        Of the depthwise convolutions.
    """

    F: Any
    derived: Derived
    p: Parameters
    prefix: str
    channels: int
    fix: bool
    dilation: int = 1

    def block(self, x: Map, levels: Sequence[LiveLevel], lambdas: Map, fix_output: bool) -> Map:
        """As `Block._weighted`."""
        F = self.F
        x = F.reshape(x, (0, 0, 0, 0))  # as in `Block._weighted`, where it runs on a CPU
        stacks: List[Map] = [x]
        members: List[Tuple[str, ...]] = [(INPUT,)]
        for number, level in enumerate(levels, 1):
            # MXNet computes the summands of a gradient in an order that this decides: what goes to
            # x comes first, by which no sum of gradients waits for the first level. It is a view.
            summed = F.reshape(x, (0, 0, 0, 0))
            if level.is_scaled:
                terms = [
                    mixed(F, stack, len(names), self._scales(level, number, names, lambdas), count)
                    for stack, names in zip(stacks, members)
                    for count in [len(level.nodes)]
                ]
                total = added(F, terms[:3])
                for term in terms[3:]:  # one by one, or all of them are there at once
                    total = total + term
                summed = F.reshape(total, (0, 0, -4, self.channels, -1, 0))
                summed = F.reshape(summed, (0, -3, 0, 0))
            stacks.append(self._level(summed, level, f"level{number}"))
            members.append(tuple(node.node for node in level.nodes))
        x = added(F, self._collected(stacks[1:], levels, lambdas))
        return batch_norm_relu(F, x, self.p, "output_bn", fix_output)

    def _scales(self, level: LiveLevel, number: int, names: Tuple[str, ...], lambdas: Map) -> Map:
        """λ from the maps of one stack to the operations of a level, operations×maps×1×1."""
        taken, places = [], []
        for row, node in enumerate(level.nodes):
            for index, source in enumerate(node.sources, node.lambdas.start):
                if source in names:
                    taken.append(index)
                    places.append(row * len(names) + names.index(source))
        name = f"level{number}_{names[0]}_{lambdas.name}".replace(".", "_")
        shape = (len(level.nodes), len(names), 1, 1)
        return self.derived.assemble(name, shape, [(lambdas, np.array(taken), np.array(places))])

    def _level(self, summed: Map, level: LiveLevel, name: str) -> Map:
        """The operations of a level, from the stack of their inputs or one that is that of all."""
        F, channels = self.F, self.channels
        runs = _runs(level.nodes)
        inputs = [summed] * len(runs)
        if level.is_scaled and len(runs) > 1:
            edges = np.cumsum([len(run) for run in runs])[:-1] * channels
            inputs = list(F.split_v2(summed, tuple(map(int, edges)), axis=1))
        parts = []
        for number, (run, part) in enumerate(zip(runs, inputs)):
            if len(run) > 1 and not level.is_scaled:
                part = self._repeated(part, len(run))
            if len(run) > 1:
                parts.append(self._separable(part, run, f"{name}_{number}"))
            else:
                (node,) = run
                parts.append(
                    filtered(F, part, self.p, node.name, node.operation, channels, self.dilation)
                )
        stack = F.concat(*parts, dim=1) if len(parts) > 1 else parts[0]
        return self._normed(stack, [f"{node.name}_bn" for node in level.nodes], f"{name}_bn")

    def _repeated(self, x: Map, count: int) -> Map:
        """A stack of so many times the same map, by one call."""
        F = self.F
        x = F.reshape(F.reshape(x, (0, -4, 1, -1, 0, 0)), (0, 0, -3, 0))
        x = F.broadcast_axis(x, axis=1, size=count)
        return F.reshape(F.reshape(x, (0, 0, -4, self.channels, -1, 0)), (0, -3, 0, 0))

    def _separable(self, x: Map, run: Sequence[LiveNode], name: str) -> Map:
        """Separable convolutions of a stack of maps, each of its own."""
        F, channels, count = self.F, self.channels, len(run)
        depthwise, pointwise = (
            [self.p[weight] for weight in weights]
            for weights in zip(*(operation_weights(node.name, node.operation) for node in run))
        )
        kernels = [kernel_of(node.operation) for node in run]
        weight = self._kernels(f"{name}_depthwise_weight", depthwise, kernels, 1)
        wide = count * channels
        x = convolution(F, x, weight, wide, max(kernels), groups=wide, dilation=self.dilation)
        weight = self.derived.stack(f"{self.prefix}{name}_pointwise_weight", pointwise)
        return convolution(F, x, weight, wide, 1, groups=count)

    def _kernels(
        self, name: str, weights: Sequence[Map], kernels: Sequence[int], inputs: int
    ) -> Map:
        """Weights of several kernels as one of the largest, with zeros around the smaller ones."""
        if len(weights) == 1:
            return weights[0]
        if len(set(kernels)) == 1:
            return self.derived.stack(self.prefix + name, weights)
        shape = (len(weights), self.channels, inputs, max(kernels), max(kernels))
        numbers = np.arange(np.prod(shape)).reshape(shape)
        pieces = []
        for weight, kernel, places in zip(weights, kernels, numbers):
            inside = slice((max(kernels) - kernel) // 2, (max(kernels) + kernel) // 2)
            places = places[..., inside, inside].ravel()
            pieces.append((weight, np.arange(places.size), places))
        return self.derived.assemble(self.prefix + name, (shape[0] * shape[1], *shape[2:]), pieces)

    def _normed(self, x: Map, names: Sequence[str], name: str) -> Map:
        """BN and ReLU of a stack of maps."""
        F, derived = self.F, self.derived

        def stacked(part: str) -> Map:
            members = [self.p[f"{one}_{part}"] for one in names]
            if part == "gamma" and self.fix:
                return derived.ones(members)
            return derived.stack(f"{self.prefix}{name}_{part}", members)

        x = F.BatchNorm(
            x,
            *map(stacked, ("gamma", "beta", "running_mean", "running_var")),
            fix_gamma=False,
            eps=BN_EPSILON,
            momentum=BN_MOMENTUM,
        )
        return F.Activation(x, act_type="relu")

    def _collected(
        self, stacks: Sequence[Map], levels: Sequence[LiveLevel], lambdas: Map
    ) -> List[Map]:
        """What each level gives to the output, as `Block._collected`."""
        F, channels = self.F, self.channels
        weight = self.p["output_weight"]
        counts = [len(level.outputs) for level in levels]
        total, start = sum(counts), levels[0].output_lambdas.start
        scales = self.derived.assemble(
            f"outputs_{lambdas.name}",
            (1, total, 1),
            [(lambdas, np.arange(start, start + total), np.arange(total))],
        )
        weight = F.broadcast_mul(F.reshape(weight, (channels, total, channels)), scales)
        weight = F.reshape(weight, (channels, total * channels, 1, 1))
        live = [(level, stack) for level, stack in zip(levels, stacks) if level.outputs]
        edges = np.cumsum([len(level.outputs) for level, _ in live])[:-1] * channels
        weights = [weight]
        if len(live) > 1:
            weights = list(F.split_v2(weight, tuple(map(int, edges)), axis=1))
        collected = []
        for (level, stack), part in zip(live, weights):
            present = [node.node in level.outputs for node in level.nodes]
            part = spread(F, part, present, axis=1, zero=(channels, channels, 1, 1))
            collected.append(convolution(F, stack, part, channels, 1))
        return collected

    def reduction(self, x: Map, kernels: Sequence[int], stride: int, lambdas: Map) -> Map:
        """The branches of a reduction as one stack, and their scaled sum."""
        F, count = self.F, len(kernels)
        weights = [self.p[f"{k}x{k}_conv_weight"] for k in kernels]
        weight = self._kernels("conv_weight", weights, kernels, self.channels // 2)
        x = convolution(F, x, weight, count * self.channels, max(kernels), stride)
        x = self._normed(x, [f"{k}x{k}_bn" for k in kernels], "bn")
        numbers = np.arange(count)
        scales = self.derived.assemble(
            f"branches_{lambdas.name}", (1, count, 1, 1), [(lambdas, numbers, numbers)]
        )
        x = F.reshape(mixed(F, x, count, scales, 1), (0, 0, -4, self.channels, -1, 0))
        return F.reshape(x, (0, -3, 0, 0))


def _runs(nodes: Sequence[LiveNode]) -> List[Tuple[LiveNode, ...]]:
    """Separable convolutions side by side; each pool by itself."""
    runs: List[Tuple[LiveNode, ...]] = []
    for node in nodes:
        follows = runs and kernel_of(node.operation) and kernel_of(runs[-1][-1].operation)
        runs = [*runs[:-1], (*runs[-1], node)] if follows else [*runs, (node,)]
    return runs
