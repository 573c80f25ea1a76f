"""A block: levels of operations, scaled sums between them, the output (Eq. 1, 2, 8); Reduction."""

from itertools import groupby
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from dsonas_mx.engine.tracing import Tracing, derived_inputs, native_tracing
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import INPUT, OUTPUT

from .fewest_calls import FewestCalls
from .operations import (
    BN_EPSILON,
    Layer,
    Map,
    Parameters,
    added,
    affine_parameters,
    batch_norm,
    batch_norm_relu,
    conv_bn_relu,
    convolution,
    declare_operation,
    filtered,
    moving_averages,
    operation_weights,
    scaled_sums,
    spread,
)


class LiveNode(NamedTuple):
    """An operation that is left, and where it takes its input from."""

    node: str  # '2.sep3'
    operation: str  # 'sep3'
    name: str  # of its parameters: 'level2_sep3'
    sources: Tuple[str, ...]
    lambdas: slice  # of its sources' scales among the live ones of the block


class LiveLevel(NamedTuple):
    """The operations of a level that are left, and which of them reach the output."""

    nodes: Tuple[LiveNode, ...]
    outputs: Tuple[str, ...]
    output_lambdas: slice

    @property
    def lambdas(self) -> slice:
        """The scales of all sums of this level, which are side by side; none in level 1."""
        return slice(self.nodes[0].lambdas.start, self.nodes[-1].lambdas.stop)

    @property
    def is_scaled(self) -> bool:
        """Whether its operations take scaled sums, not just the block's input."""
        return self.lambdas.stop > self.lambdas.start


def live_levels(architecture: Architecture, structure: int) -> Tuple[LiveLevel, ...]:
    """The levels of a structure that still have an operation."""
    nodes: List[LiveNode] = []
    start = 0
    for node in architecture.live_nodes(structure):
        level, operation = node.split(".")
        sources = architecture.live_sources(structure, node)
        scales = slice(start, start + len(sources))
        nodes.append(
            LiveNode(node, operation, f"level{level}_{operation}", sources or (INPUT,), scales)
        )
        start = scales.stop
    to_output = architecture.live_sources(structure, OUTPUT)
    levels = []
    for _, group in groupby(nodes, key=lambda node: node.node.split(".")[0]):
        members = tuple(group)
        outputs = tuple(node.node for node in members if node.node in to_output)
        levels.append(LiveLevel(members, outputs, slice(start, start + len(outputs))))
        start += len(outputs)
    return tuple(levels)


class Block(Layer):
    """One block of the normal setting.

    Level 1 takes the block's input unscaled. An operation of a later level takes the sum of its
    sources (Eq. 1), each times its λ (Eq. 8); the output (Eq. 2) is a 1×1 convolution of the
    concatenated operations, each times its λ, then BN, ReLU, and the shortcut. A block with nothing
    left is its shortcut.

    Inputs: a map B×C×H×W; if the network is weighted, the scales of the live connections in the
    order of `SearchSpace.connections`; with drop path, their scales for each sample (B×connections)
    instead. Output: B×C×H×W.

    Parameters
    ----------
    architecture : Architecture
    structure : int
        Which of its structures this block has.
    channels : int
        C.
    projects : bool
        The shortcut is a conv1×1-BN-ReLU (the first block of a stage), not the identity.
    fix_gamma : {'all', 'operations', 'none'}
        Which BN scales are fixed to one.
    dilation : int
        Of the depthwise convolutions; the project's own operators know none but 1.
    """

    def __init__(
        self,
        architecture: Architecture,
        structure: int,
        channels: int,
        projects: bool,
        fix_gamma: str,
        dilation: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._channels = channels
        self._projects = projects
        self._dilation = dilation
        self._fix = fix_gamma in ("all", "operations")
        self._fix_output = fix_gamma == "all"
        self._levels = live_levels(architecture, structure)
        self.outputs = architecture.live_sources(structure, OUTPUT)
        with self.name_scope():
            if projects:
                self.declare_conv_bn("shortcut", (channels, channels, 1, 1), self._fix)
            for level in self._levels:
                for node in level.nodes:
                    declare_operation(self, node.name, node.operation, channels, self._fix)
            if self.outputs:
                self.declare_convolution("output", (channels, len(self.outputs) * channels, 1, 1))
                self.declare_batch_norm("output_bn", channels, self._fix_output)

    def hybrid_forward(
        self,
        F: Any,
        x: Map,
        lambdas: Optional[Map] = None,
        dropping: Optional[Map] = None,
        **p: Map,
    ) -> Map:
        shortcut = x
        if self._projects:
            shortcut = conv_bn_relu(F, x, p, "shortcut", self._channels, 1, self._fix)
        if not self._levels:
            return shortcut
        tracing = native_tracing(F)
        if tracing is not None and self._dilation == 1:
            return self._native(F, x, lambdas, dropping, p, tracing) + shortcut
        derived = derived_inputs(F)
        if derived is not None and lambdas is not None:
            form = FewestCalls(
                F, derived, p, self.prefix, self._channels, self._fix, self._dilation
            )
            return form.block(x, self._levels, lambdas, self._fix_output) + shortcut
        if lambdas is None:
            return self._found(F, x, dropping, p) + shortcut
        return self._weighted(F, x, lambdas, p) + shortcut

    def _found(self, F: Any, x: Map, dropping: Optional[Map], p: Parameters) -> Map:
        """Without λ, with MXNet's own operators: exports, and fuses."""
        maps: Dict[str, Map] = {INPUT: x}
        for level in self._levels:
            for node, summed in zip(level.nodes, self._sums(F, level, maps, dropping)):
                summed = filtered(
                    F, summed, p, node.name, node.operation, self._channels, self._dilation
                )
                maps[node.node] = batch_norm_relu(F, summed, p, f"{node.name}_bn", self._fix)
        outputs = [maps[node] for node in self.outputs]
        if dropping is not None:
            outputs = _dropped(F, outputs, dropping, self._levels[0].output_lambdas.start)
        stacked = F.concat(*outputs, dim=1) if len(outputs) > 1 else outputs[0]
        x = convolution(F, stacked, p["output_weight"], self._channels, 1)
        return batch_norm_relu(F, x, p, "output_bn", self._fix_output)

    def _sums(
        self, F: Any, level: LiveLevel, maps: Dict[str, Map], dropping: Optional[Map]
    ) -> Sequence[Map]:
        """The input of each operation of a level (Eq. 1)."""
        sums: List[Map] = []
        if dropping is not None:
            for node in level.nodes:
                summands = [maps[source] for source in node.sources]
                if len(summands) > 1:
                    summands = _dropped(F, summands, dropping, node.lambdas.start)
                sums.append(added(F, summands))
            return sums
        # Operations with the same sources are summed together.
        for sources, members in groupby(level.nodes, key=lambda node: node.sources):
            sums += [added(F, [maps[source] for source in sources])] * len(list(members))
        return sums

    def _weighted(self, F: Any, x: Map, lambdas: Map, p: Parameters) -> Map:
        """With λ and MXNet's own operators, which run on every device.

        The maps of a level are one array, so that no sum has to gather its summands again: what
        backward needs of a level are its sums, what its BNs normalise, and this array.
        """
        channels = self._channels
        # A Reshape changes MKLDNN's layout of a map in place, but a max pool that ran before it
        # has its maxima in the old layout, and sends its gradient elsewhere. So change it first.
        x = F.reshape(x, (0, 0, 0, 0))
        stacks, sizes, sources = [x], [1], [INPUT]
        for level in self._levels:
            inputs: Sequence[Map] = [x] * len(level.nodes)
            if level.is_scaled:
                count = len(level.nodes)
                present = [source in node.sources for node in level.nodes for source in sources]
                scales = spread(F, _part(F, lambdas, level.lambdas), present)
                scales = F.reshape(scales, (count, len(sources)))
                inputs = scaled_sums(F, stacks, sizes, scales, count, channels)
            normed = []
            for node, summed in zip(level.nodes, inputs):
                summed = filtered(F, summed, p, node.name, node.operation, channels, self._dilation)
                normed.append(batch_norm(F, summed, p, f"{node.name}_bn", self._fix))
            stack = F.concat(*normed, dim=1) if len(normed) > 1 else normed[0]
            stacks.append(F.Activation(stack, act_type="relu"))
            sizes.append(len(level.nodes))
            sources += [node.node for node in level.nodes]
        x = added(F, self._collected(F, stacks[1:], lambdas, p))
        return batch_norm_relu(F, x, p, "output_bn", self._fix_output)

    def _collected(
        self, F: Any, stacks: Sequence[Map], lambdas: Map, p: Parameters
    ) -> Sequence[Map]:
        """What each level gives to the output."""
        channels = self._channels
        scales = _part(F, lambdas, slice(self._levels[0].output_lambdas.start, None))
        scales = F.reshape(F.repeat(scales, repeats=channels), (1, -1, 1, 1))
        weight = F.broadcast_mul(p["output_weight"], scales)  # λ W h = (λ W) h
        collected, start = [], 0
        for level, stack in zip(self._levels, stacks):
            if level.outputs:
                stop = start + len(level.outputs) * channels
                part = F.slice_axis(weight, axis=1, begin=start, end=stop)
                start = stop
                present = [node.node in level.outputs for node in level.nodes]
                part = spread(F, part, present, axis=1, zero=(channels, channels, 1, 1))
                collected.append(convolution(F, stack, part, channels, 1))
        return collected

    def _native(
        self,
        F: Any,
        x: Map,
        lambdas: Optional[Map],
        dropping: Optional[Map],
        p: Parameters,
        tracing: Tracing,
    ) -> Map:
        """With the project's own operators: the same function, in training on the CPU."""
        per_sample = dropping is not None
        lambdas = dropping if per_sample else lambdas
        weighted = lambdas is not None
        stacks, counts, numbers = [x], [1], {INPUT: 0}
        collected = []
        column = 0
        for level in self._levels:
            edges = ";".join(
                " ".join(str(numbers[source]) for source in node.sources) for node in level.nodes
            )
            scaled = weighted and level.is_scaled
            weights = [
                p[weight]
                for node in level.nodes
                for weight in operation_weights(node.name, node.operation)
            ]
            names = [f"{node.name}_bn" for node in level.nodes]
            stack, statistics = F.dsonas_level(
                *([_part(F, lambdas, level.lambdas)] if scaled else []),
                *stacks,
                *weights,
                *affine_parameters(p, names),
                operations=",".join(node.operation for node in level.nodes),
                maps=",".join(map(str, counts)),
                edges=edges,
                scaled=int(scaled),
                per_sample=int(per_sample),
                eps=BN_EPSILON,
                fix_gamma=int(self._fix),
                gradients=tracing.gradients,
            )
            tracing.also(moving_averages(F, statistics, p, names))
            if level.outputs:
                stop = column + len(level.outputs) * self._channels
                weight = F.slice_axis(p["output_weight"], axis=1, begin=column, end=stop)
                column = stop
                order = [node.node for node in level.nodes]
                part = F.dsonas_collect(
                    *([_part(F, lambdas, level.output_lambdas)] if weighted else []),
                    stack,
                    weight,
                    maps=len(level.nodes),
                    select=" ".join(str(order.index(node)) for node in level.outputs),
                    scaled=int(weighted),
                    per_sample=int(per_sample),
                    gradients=tracing.gradients,
                )
                collected.append(part)
            for node in level.nodes:
                numbers[node.node] = len(numbers)
            stacks.append(stack)
            counts.append(len(level.nodes))
        x = added(F, collected)
        return batch_norm_relu(F, x, p, "output_bn", self._fix_output)


class Reduction(Layer):
    """Halves the map and doubles the channels: conv1×1/2 plus conv3×3/2, each conv-BN-ReLU.

    Inputs: B×C×H×W and, if the network is weighted, the λ of each live branch. Output:
    B×2C×⌈H/2⌉×⌈W/2⌉; with a `stride` of 1 B×2C×H×W.
    """

    def __init__(
        self,
        branches: Tuple[bool, bool],
        channels: int,
        fix_gamma: str,
        stride: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._stride = stride
        self._channels = 2 * channels
        self._fix = fix_gamma in ("all", "operations")
        self._kernels = tuple(k for k, lives in zip((1, 3), branches) if lives)
        with self.name_scope():
            for kernel in self._kernels:
                shape = (self._channels, channels, kernel, kernel)
                self.declare_conv_bn(f"{kernel}x{kernel}", shape, self._fix)

    def hybrid_forward(self, F: Any, x: Map, lambdas: Optional[Map] = None, **p: Map) -> Map:
        derived = derived_inputs(F)
        if derived is not None and lambdas is not None:
            form = FewestCalls(F, derived, p, self.prefix, self._channels, self._fix)
            return form.reduction(x, self._kernels, self._stride, lambdas)
        branches = [
            conv_bn_relu(F, x, p, f"{k}x{k}", self._channels, k, self._fix, self._stride)
            for k in self._kernels
        ]
        if lambdas is not None:
            stack = F.concat(*branches, dim=1) if len(branches) > 1 else branches[0]
            scales = F.reshape(lambdas, (1, -1))
            return scaled_sums(F, [stack], [len(branches)], scales, 1, self._channels)[0]
        return added(F, branches)


def _part(F: Any, lambdas: Map, part: slice) -> Map:
    return F.slice_axis(lambdas, axis=-1, begin=part.start, end=part.stop)


def _dropped(F: Any, maps: Sequence[Map], dropping: Map, start: int) -> List[Map]:
    """Each map times the scales of its samples, which are columns of `dropping` from `start` on."""
    scales = (_part(F, dropping, slice(i, i + 1)) for i in range(start, start + len(maps)))
    return [F.broadcast_mul(x, F.reshape(scale, (0, 1, 1, 1))) for x, scale in zip(maps, scales)]
