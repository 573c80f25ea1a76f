"""The operations of a block, and what all layers of these networks share.

Every convolution is conv-BN-ReLU without bias (section 3.1). A layer declares its parameters by
name and uses them as `p[name]`, so that the same equations serve arrays and symbols.
"""

from itertools import groupby
from typing import Any, Dict, List, Sequence, Tuple

from dsonas_mx.engine.tracing import derived_inputs, native_tracing
from dsonas_mx.space.operations import TABLE

import mxnet as mx
from mxnet.gluon import HybridBlock

BN_EPSILON = 2e-5
BN_MOMENTUM = 0.9

Map = Any  # an array or a symbol
Parameters = Dict[str, Map]

# Gaussian with variance 2 / fan_out, where MXNet's fan_out is out_channels·k², depthwise too.
CONVOLUTION_INIT = mx.init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2)
CLASSIFIER_INIT = mx.init.Normal(0.01)


class Layer(HybridBlock):
    """A HybridBlock that declares parameters by name.

    Weight decay is for the weights of convolutions and classifiers alone.
    """

    def declare(
        self, name: str, shape: Tuple[int, ...], init: mx.init.Initializer, **options: Any
    ) -> None:
        """Make `name` a parameter of this layer, found as `p[name]` in `hybrid_forward`."""
        setattr(self, name, self.params.get(name, shape=shape, init=init, **options))

    def declare_convolution(self, name: str, shape: Tuple[int, int, int, int]) -> None:
        """A weight of shape O×I×k×k."""
        self.declare(f"{name}_weight", shape, CONVOLUTION_INIT)

    def declare_batch_norm(self, name: str, channels: int, fix_gamma: bool) -> None:
        """Gamma, beta and moving statistics; a fixed gamma is one and is not trained."""
        shape = (channels,)
        learned = "null" if fix_gamma else "write"
        self.declare(f"{name}_gamma", shape, mx.init.One(), grad_req=learned, wd_mult=0)
        self.declare(f"{name}_beta", shape, mx.init.Zero(), wd_mult=0)
        for statistic, init in (("mean", mx.init.Zero()), ("var", mx.init.One())):
            self.declare(
                f"{name}_running_{statistic}", shape, init, grad_req="null", differentiable=False
            )

    def declare_conv_bn(self, name: str, shape: Tuple[int, int, int, int], fix_gamma: bool) -> None:
        """What `conv_bn_relu` of that name needs."""
        self.declare_convolution(f"{name}_conv", shape)
        self.declare_batch_norm(f"{name}_bn", shape[0], fix_gamma)


def convolution(
    F: Any,
    x: Map,
    weight: Map,
    channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
) -> Map:
    """A convolution without bias that keeps the size, up to its stride."""
    return F.Convolution(
        x,
        weight,
        num_filter=channels,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(dilation * (kernel // 2),) * 2,
        dilate=(dilation, dilation),
        num_group=groups,
        no_bias=True,
    )


def batch_norm(F: Any, x: Map, p: Parameters, name: str, fix_gamma: bool) -> Map:
    """BN with the constants of the reference (eps 2e-5, momentum 0.9)."""
    gamma, derived = p[f"{name}_gamma"], derived_inputs(F)
    if derived is not None and fix_gamma:
        gamma, fix_gamma = derived.ones([gamma]), False
    return F.BatchNorm(
        x,
        gamma,
        *(p[f"{name}_{part}"] for part in ("beta", "running_mean", "running_var")),
        fix_gamma=fix_gamma,
        eps=BN_EPSILON,
        momentum=BN_MOMENTUM,
    )


def batch_norm_relu(F: Any, x: Map, p: Parameters, name: str, fix_gamma: bool) -> Map:
    """BN, then ReLU: an `Activation`, which MKLDNN fuses where `F.relu` is left alone."""
    tracing = native_tracing(F)
    if tracing is not None:
        x, statistics = F.dsonas_normalize(
            x, *affine_parameters(p, [name]), eps=BN_EPSILON, fix_gamma=int(fix_gamma)
        )
        tracing.also(moving_averages(F, statistics, p, [name]))
        return x
    return F.Activation(batch_norm(F, x, p, name, fix_gamma), act_type="relu")


def affine_parameters(p: Parameters, names: Sequence[str]) -> List[Map]:
    """Scale and shift of each BN of a stack of maps."""
    return [p[f"{name}_{part}"] for name in names for part in ("gamma", "beta")]


def moving_averages(F: Any, statistics: Map, p: Parameters, names: Sequence[str]) -> Map:
    """Moves the averages of a stack's BNs.

    An operator of its own, so that a recomputed graph does not move them twice.
    """
    moving = [p[f"{name}_running_{part}"] for name in names for part in ("mean", "var")]
    return F.dsonas_average(statistics, *moving, maps=len(names), momentum=BN_MOMENTUM)


def conv_bn_relu(
    F: Any,
    x: Map,
    p: Parameters,
    name: str,
    channels: int,
    kernel: int,
    fix_gamma: bool,
    stride: int = 1,
) -> Map:
    """conv-BN-ReLU, with the parameters of `Layer.declare_conv_bn`."""
    x = convolution(F, x, p[f"{name}_conv_weight"], channels, kernel, stride)
    return batch_norm_relu(F, x, p, f"{name}_bn", fix_gamma)


def kernel_of(operation: str) -> int:
    """The kernel of a separable convolution ('sep5': 5), or 0 for a pool."""
    row = TABLE[operation]
    return row.kernel if row.is_separable else 0


def declare_operation(layer: Layer, name: str, operation: str, channels: int, fix: bool) -> None:
    """Declare what `operation`, called `name` in its layer, needs."""
    kernel = kernel_of(operation)
    if kernel:
        layer.declare_convolution(f"{name}_depthwise", (channels, 1, kernel, kernel))
        layer.declare_convolution(f"{name}_pointwise", (channels, channels, 1, 1))
    layer.declare_batch_norm(f"{name}_bn", channels, fix)


def operation_weights(name: str, operation: str) -> Tuple[str, ...]:
    """Names of the convolution weights of an operation, in the order in which they act."""
    parts = ("depthwise", "pointwise") if kernel_of(operation) else ()
    return tuple(f"{name}_{part}_weight" for part in parts)


def filtered(
    F: Any, x: Map, p: Parameters, name: str, operation: str, channels: int, dilation: int = 1
) -> Map:
    """An operation before its BN: depthwise, pointwise (nothing between), or a pool.

    Dilation is of the depthwise convolution; a pool has none.
    """
    kernel = kernel_of(operation)
    if kernel:
        depthwise, pointwise = (p[weight] for weight in operation_weights(name, operation))
        x = convolution(F, x, depthwise, channels, kernel, groups=channels, dilation=dilation)
        return convolution(F, x, pointwise, channels, 1)
    # The mean of an average pool counts the padding.
    return F.Pooling(x, kernel=(3, 3), stride=(1, 1), pad=(1, 1), pool_type=operation)


def spread(
    F: Any, packed: Map, present: Sequence[bool], axis: int = 0, zero: Tuple[int, ...] = (1,)
) -> Map:
    """The parts of a packed array, with zeros where one is missing.

    Parameters
    ----------
    packed : the parts that are present, one behind the other along `axis`
    present : of all parts
    zero : shape of a part
    """
    if all(present):
        return packed
    runs, start = [], 0
    for is_present, run in groupby(present):
        size = len(list(run)) * zero[axis]
        if is_present:
            runs.append(F.slice_axis(packed, axis=axis, begin=start, end=start + size))
            start += size
        else:
            shape = (*zero[:axis], size, *zero[axis + 1 :])
            runs.append(F.zeros(shape, **({"ctx": packed.context} if F is mx.nd else {})))
    return F.concat(*runs, dim=axis)


def scaled_sums(
    F: Any, stacks: Sequence[Map], sizes: Sequence[int], scales: Map, count: int, channels: int
) -> Sequence[Map]:
    """`count` sums of the same maps, each with its own scales (Eq. 8).

    Parameters
    ----------
    stacks : B×SC×H×W each
    sizes : S of each
    scales : count×ΣS
    """
    sums = []
    start = 0
    for stack, size in zip(stacks, sizes):
        weight = F.slice_axis(scales, axis=1, begin=start, end=start + size)
        start += size
        sums.append(mixed(F, stack, size, F.reshape(weight, (count, size, 1, 1)), count))
    total = sums[0]
    for more in sums[1:]:
        total = total + more
    total = F.reshape(total, (0, 0, -4, channels, -1, 0))
    if count == 1:
        return (F.reshape(total, (0, -3, 0, 0)),)
    return tuple(F.split(total, num_outputs=count, axis=1, squeeze_axis=True))


def mixed(F: Any, stack: Map, size: int, scales: Map, count: int) -> Map:
    """`count` scaled sums of the maps of a stack, B×count×CH×W.

    A stack of S maps is taken as B×S×CH×W, and a 1×1 convolution of S inputs and `count` outputs,
    whose weight is λ (count×S×1×1), mixes them. Its backward is one node, which lets a recomputed
    graph free a stack as soon as it was used; a matrix product's would be two.
    """
    maps = F.reshape(F.reshape(stack, (0, -4, size, -1, 0, 0)), (0, 0, -3, 0))
    return F.Convolution(maps, scales, num_filter=count, kernel=(1, 1), no_bias=True)


def added(F: Any, maps: Sequence[Map]) -> Map:
    """The sum of all `maps`."""
    return F.add_n(*maps) if len(maps) > 1 else maps[0]
