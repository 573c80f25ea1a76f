"""The network of the mobile setting (section 3.1, Eq. 3 and 4), and Proxyless on its skeletons.

MBConv (Sandler et al. 2018): a 1×1 convolution to more channels, a depthwise one, a 1×1
convolution; BN behind each, ReLU6 behind the first two.
"""

from typing import Any, Dict, Optional, Tuple

from dsonas_mx.space.mobile import BlockShape, MobileSpace, kernel_and_expansion
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.space.scales import lambda_parameters

import mxnet as mx

from .operations import (
    CLASSIFIER_INIT,
    Layer,
    Map,
    Parameters,
    added,
    batch_norm,
    convolution,
    scaled_sums,
)

# Published by Cai, Zhu and Han (2019): the operation of every block, stage by stage.
PROXYLESS = {
    "mobile-gpu": "k5e3 | k7e3 k3e3 | k7e6 k5e3 | k5e6 k3e3 k5e3 | k7e6 k7e6 k7e6 k5e6 | k7e6",
    "mobile-cpu": "k3e6 k3e3 k3e3 k3e3 | k3e6 k3e3 k3e3 k5e3 | k3e6 k3e3 | k5e6 k3e3 k3e3 k3e3"
    " | k5e6 k5e3 k5e3 k3e3 | k5e6",
}


def proxyless(name: str, **changes: Any) -> MobileArchitecture:
    """The published network on a skeleton, 'mobile-gpu' or 'mobile-cpu'."""
    space = MobileSpace.skeleton(name, **changes)
    operations = PROXYLESS[name].replace("|", " ").split()
    return MobileArchitecture.of(space, [[one] for one in operations], {"baseline": "Proxyless"})


class Mobile(Layer):
    """The network of an architecture of the mobile setting, supernet or found.

    Input: images, B×in_channels×H×W. Output: logits, B×num_classes.

    Parameters
    ----------
    architecture : MobileArchitecture
    weighted : bool
        Give every live operation a scale λ, which starts at 1.
    fix_gamma : {'all', 'operations', 'none'}, optional
        Which BN scales are fixed to one: all, those of the operations, or none. The default is
        ``'all'`` if weighted, else ``'none'``.

    Attributes
    ----------
    packed : dict
        For each parameter of λ, its axis and which of all scales it holds.
    """

    def __init__(
        self,
        architecture: MobileArchitecture,
        weighted: bool = False,
        fix_gamma: Optional[str] = None,
    ) -> None:
        super().__init__(prefix="")  # parameters are called the same in every process
        fix_gamma = fix_gamma or ("all" if weighted else "none")
        if fix_gamma not in ("all", "operations", "none"):
            raise ValueError(f"fix_gamma must be all, operations or none, got {fix_gamma!r}")
        space = architecture.space
        self.architecture = architecture
        self.weighted = weighted
        self._fix, self._fix_operations = fix_gamma == "all", fix_gamma != "none"
        self.packed: Dict[str, Tuple[int, Tuple[int, ...]]] = {}
        scales = lambda_parameters(architecture)
        self.declare_conv_bn("stem", (space.stem, space.in_channels, 3, 3), self._fix)
        self._first = BlockShape(space.stem, space.first, 1, 0)
        declare_mbconv(self, "first", self._first, 3, 1, self._fix)
        self._names = [f"stage{stage}_block{block}" for stage, block in space.block_positions]
        for block, (name, shape) in enumerate(zip(self._names, space.block_shapes)):
            live = architecture.live(block)
            for operation in live:
                kernel, expansion = kernel_and_expansion(operation)
                declare_mbconv(
                    self, f"{name}_{operation}", shape, kernel, expansion, self._fix_operations
                )
            if weighted:
                held = scales[f"{name}_lambdas"]
                self.declare(f"{name}_lambdas", held.shape, mx.init.One(), wd_mult=0)
                self.packed[f"{name}_lambdas"] = (0, tuple(held.tolist()))
        self.declare_conv_bn("last", (space.last, space.widths[-1], 1, 1), self._fix)
        self.declare("fc_weight", (space.num_classes, space.last), CLASSIFIER_INIT)
        self.declare("fc_bias", (space.num_classes,), mx.init.Zero(), wd_mult=0)

    @property
    def lambda_names(self) -> Tuple[str, ...]:
        """Parameters that hold λ, in the order of the network."""
        return tuple(self.packed)

    @property
    def never_empty(self) -> Tuple[str, ...]:
        """Parameters of λ that a search must not take to zero as a whole."""
        return self.lambda_names

    def hybrid_forward(self, F: Any, x: Map, **p: Map) -> Map:
        space = self.architecture.space
        x = _conv_bn_relu6(F, x, p, "stem", space.stem, 3, self._fix, stride=2)
        x = mbconv(F, x, p, "first", self._first, 3, 1, self._fix)
        for block, (name, shape) in enumerate(zip(self._names, space.block_shapes)):
            x = self._block(F, x, p, name, shape, self.architecture.live(block))
        x = _conv_bn_relu6(F, x, p, "last", space.last, 1, self._fix)
        x = F.flatten(F.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg"))
        return F.FullyConnected(x, p["fc_weight"], p["fc_bias"], num_hidden=space.num_classes)

    def _block(
        self, F: Any, x: Map, p: Parameters, name: str, shape: BlockShape, live: Tuple[str, ...]
    ) -> Map:
        """Eq. 4: the (scaled) sum of the operations and, where shapes agree, of the input."""
        maps = [
            mbconv(
                F, x, p, f"{name}_{one}", shape, *kernel_and_expansion(one), self._fix_operations
            )
            for one in live
        ]
        if self.weighted:
            # Kept when the rest is computed again in backward, so that the gradient of λ does not
            # need all operations at once.
            maps = [F.identity(one) for one in maps]
            scales = F.reshape(p[f"{name}_lambdas"], (1, -1))
            stack = F.concat(*maps, dim=1) if len(maps) > 1 else maps[0]
            maps = list(scaled_sums(F, [stack], [len(maps)], scales, 1, shape.outputs))
        terms = [*maps, x] if shape.has_identity else maps
        return added(F, terms)


class Operation(Layer):
    """One operation of a block by itself, to measure it."""

    def __init__(self, shape: BlockShape, operation: str) -> None:
        super().__init__(prefix="")
        self._shape = shape
        self._kernel, self._expansion = kernel_and_expansion(operation)
        declare_mbconv(self, "operation", shape, self._kernel, self._expansion, False)

    def hybrid_forward(self, F: Any, x: Map, **p: Map) -> Map:
        return mbconv(F, x, p, "operation", self._shape, self._kernel, self._expansion, False)


def declare_mbconv(
    layer: Layer, name: str, shape: BlockShape, kernel: int, expansion: int, fix: bool
) -> None:
    """Declare what `mbconv` of that name needs."""
    wide = shape.inputs * expansion
    if expansion > 1:
        layer.declare_conv_bn(f"{name}_expand", (wide, shape.inputs, 1, 1), fix)
    layer.declare_conv_bn(f"{name}_depthwise", (wide, 1, kernel, kernel), fix)
    layer.declare_conv_bn(f"{name}_project", (shape.outputs, wide, 1, 1), fix)


def mbconv(
    F: Any,
    x: Map,
    p: Parameters,
    name: str,
    shape: BlockShape,
    kernel: int,
    expansion: int,
    fix: bool,
) -> Map:
    """An MBConv of a shape, without the identity."""
    wide = shape.inputs * expansion
    if expansion > 1:
        x = _conv_bn_relu6(F, x, p, f"{name}_expand", wide, 1, fix)
    x = _conv_bn_relu6(F, x, p, f"{name}_depthwise", wide, kernel, fix, shape.stride, wide)
    x = convolution(F, x, p[f"{name}_project_conv_weight"], shape.outputs, 1)
    return batch_norm(F, x, p, f"{name}_project_bn", fix)


def _conv_bn_relu6(
    F: Any,
    x: Map,
    p: Parameters,
    name: str,
    channels: int,
    kernel: int,
    fix: bool,
    stride: int = 1,
    groups: int = 1,
) -> Map:
    x = convolution(F, x, p[f"{name}_conv_weight"], channels, kernel, stride, groups)
    return F.clip(batch_norm(F, x, p, f"{name}_bn", fix), a_min=0, a_max=6)
