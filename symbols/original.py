"""The original's graph: one MXNet operator a connection, under the authors' names.

The yardstick of the benchmarks, and an oracle of the tests; nothing else uses it. Scales are (1, 1)
arrays times maps, sums `add_n`, pools `Pooling`, and every output has a 1×1 convolution.
"""

from typing import Any, Dict, List

from dsonas_mx.space.normal import OUTPUT, SearchSpace
from dsonas_mx.space.operations import TABLE

import mxnet as mx

Symbol = Any  # mx.sym.Symbol


class _Builder:
    def __init__(self, space: SearchSpace, fix_gamma: str, layout: str) -> None:
        self.space = space
        self.inside = fix_gamma in ("all", "operations")
        self.outside = fix_gamma == "all"
        self.layout = layout
        self.scales: Dict[str, Symbol] = {}

    def bn(self, x: Symbol, name: str, fix: bool) -> Symbol:
        x = mx.sym.BatchNorm(x, name=name, fix_gamma=fix, eps=2e-5, momentum=0.9)
        return mx.sym.relu(x)

    def conv(
        self, x: Symbol, name: str, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> Symbol:
        return mx.sym.Convolution(
            x,
            name=name,
            num_filter=channels,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            pad=(kernel // 2, kernel // 2),
            num_group=groups,
            no_bias=True,
        )

    def conv_bn(self, x: Symbol, name: str, channels: int, kernel: int, stride: int = 1) -> Symbol:
        return self.bn(self.conv(x, name, channels, kernel, stride), f"{name}_bn", self.inside)

    def scale(self, name: str, index: int, size: int) -> Symbol:
        if name not in self.scales:
            self.scales[name] = mx.sym.Variable(name, shape=(1, size))
        return mx.sym.slice_axis(self.scales[name], axis=1, begin=index, end=index + 1)

    def scaled_inputs(self, place: str, target: str, maps: Dict[str, Symbol]) -> List[Symbol]:
        """The sources of `target`, each times its scale."""
        space = self.space
        sources = space.sources(target)
        part, size = space.inputs(target), len(space.connections)
        if space.scope == "full" and self.layout == "vector":
            name, start = f"lambda_{place}", part.start
        else:
            start, size = 0, len(sources)
            middle = "" if space.scope == "share" else f"{place}_"
            if target == OUTPUT:
                name = f"lambda_after_{middle}".rstrip("_")
            else:
                level, operation = target.split(".")
                name = f"lambda_{middle}layer_{level}_{space.operations.index(operation) + 1}"
        return [
            mx.sym.broadcast_mul(maps[source], self.scale(name, start + i, size))
            for i, source in enumerate(sources)
        ]

    def block(self, x: Symbol, place: str, channels: int, projects: bool) -> Symbol:
        maps = {"input": x}
        for node in self.space.nodes:
            level, operation = node.split(".")
            row = TABLE[operation]
            summed = x if level == "1" else mx.sym.add_n(*self.scaled_inputs(place, node, maps))
            name = f"{place}_{level}_{row.authors}"
            if row.is_separable:
                summed = self.conv(summed, f"{name}_sep", channels, row.kernel, 1, channels)
                summed = self.conv(summed, name, channels, 1)
            else:
                summed = mx.sym.Pooling(
                    summed, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type=operation
                )
            maps[node] = self.bn(summed, f"{name}_bn", self.inside)
        outputs = [
            self.conv(scaled, f"{place}_output_conv_{k}", channels, 1)
            for k, scaled in enumerate(self.scaled_inputs(place, OUTPUT, maps), 1)
        ]
        out = self.bn(mx.sym.add_n(*outputs), f"{place}_bn", self.outside)
        return out + (self.conv_bn(x, f"{place}_id_conv", channels, 1) if projects else x)

    def reduction(self, x: Symbol, place: str, channels: int) -> Symbol:
        branches = [self.conv_bn(x, f"{place}_conv{k}x{k}", channels, k, 2) for k in (1, 3)]
        scales = [self.scale(f"lambda_{place}", i, 2) for i in (0, 1)]
        return mx.sym.add_n(*map(mx.sym.broadcast_mul, branches, scales))

    def network(self) -> Symbol:
        space, x = self.space, mx.sym.Variable("data")
        width, stride = space.width, 2 if space.stem == "imagenet" else 1
        stem = [width] if space.stem == "cifar" else [width // 2, width]
        for i, channels in enumerate(stem):
            x = self.bn(self.conv(x, f"conv{i}", channels, 3, stride), f"bn{i}", self.outside)
        for stage, blocks in enumerate(space.blocks, 1):
            for unit in range(1, blocks + 1):
                x = self.block(x, f"stage{stage}_unit{unit}", width, unit == 1)
            if stage < len(space.blocks):
                width *= 2
                x = self.reduction(x, f"stage{stage}_unit{blocks + 1}", width)
        x = self.bn(x, "final_bn", self.outside)
        x = mx.sym.flatten(mx.sym.mean(x, axis=(2, 3), keepdims=True))
        x = mx.sym.FullyConnected(x, name="fc1", num_hidden=space.num_classes)
        return mx.sym.SoftmaxOutput(x, name="softmax")


def network(space: SearchSpace, fix_gamma: str = "operations", layout: str = "vector") -> Symbol:
    """The symbol, with a softmax whose gradient is that of the summed cross-entropy."""
    return _Builder(space, fix_gamma, layout).network()
