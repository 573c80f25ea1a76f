"""The backbones of MobileNetV1 (Howard et al. 2017) and V2 (Sandler et al. 2018), dilated.

Both end where the published DeepLabv3 networks on them do: V1 behind its last convolution, of 1024
channels, V2 behind its last bottleneck, of 320. What would have stride 32 has stride 16, and the
depthwise convolutions behind it dilation 2.
"""

from typing import Any, List, NamedTuple, Tuple

from .operations import Layer, Map, batch_norm, convolution

# Channels and stride of each depthwise separable convolution.
V1 = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
# Expansion, channels, blocks and stride of each stage of bottlenecks.
V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
MOST_STRIDE = 16


class _Convolution(NamedTuple):
    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    active: bool = True  # BN is followed by ReLU (V1) or ReLU6 (V2)


class _Unit(NamedTuple):
    convolutions: Tuple[_Convolution, ...]
    adds_input: bool


class MobileNet(Layer):
    """A backbone at stride 16. Input: B×3×H×W. Outputs: the maps behind stride 16's last unit that
    is not dilated, and behind the last.

    Parameters
    ----------
    version : {1, 2}

    Attributes
    ----------
    channels : (int, int)
        Of the two outputs.
    """

    def __init__(self, version: int) -> None:
        super().__init__(prefix="")
        self._units = _v1() if version == 1 else _v2()
        self._clips = version == 2
        dilated = [any(c.dilation > 1 for c in unit.convolutions) for unit in self._units]
        # The unit that lost its stride is not dilated itself.
        self._third = dilated.index(True) - 2
        ends = (self._units[self._third], self._units[-1])
        self.channels = tuple(unit.convolutions[-1].outputs for unit in ends)
        for unit in self._units:
            for c in unit.convolutions:
                inputs = 1 if c.depthwise else c.inputs
                self.declare_conv_bn(c.name, (c.outputs, inputs, c.kernel, c.kernel), False)

    def hybrid_forward(self, F: Any, x: Map, **p: Map) -> Tuple[Map, Map]:
        third = x
        for index, unit in enumerate(self._units):
            before = x
            for c in unit.convolutions:
                groups = c.inputs if c.depthwise else 1
                weight = p[f"{c.name}_conv_weight"]
                x = convolution(
                    F, x, weight, c.outputs, c.kernel, c.stride, groups, dilation=c.dilation
                )
                x = batch_norm(F, x, p, f"{c.name}_bn", False)
                if c.active:
                    x = F.clip(x, 0, 6) if self._clips else F.Activation(x, act_type="relu")
            if unit.adds_input:
                x = x + before
            if index == self._third:
                third = x
        return third, x


class _Strides:
    """Turns strides into dilation once the map is small enough."""

    def __init__(self) -> None:
        self._reached = 1
        self._dilation = 1

    def of(self, stride: int) -> Tuple[int, int]:
        """Stride and dilation of the next convolution, which would have that stride."""
        dilation = self._dilation
        if self._reached * stride > MOST_STRIDE:
            self._dilation *= stride
            return 1, dilation
        self._reached *= stride
        return stride, dilation


def _v1() -> List[_Unit]:
    strides = _Strides()
    units = [_Unit((_Convolution("stem", 3, 32, 3, strides.of(2)[0]),), False)]
    inputs = 32
    for number, (outputs, stride) in enumerate(V1, 1):
        spatial = _Convolution(
            f"unit{number}_depthwise", inputs, inputs, 3, *strides.of(stride), depthwise=True
        )
        units.append(
            _Unit((spatial, _Convolution(f"unit{number}_pointwise", inputs, outputs, 1)), False)
        )
        inputs = outputs
    return units


def _v2() -> List[_Unit]:
    strides = _Strides()
    units = [_Unit((_Convolution("stem", 3, 32, 3, strides.of(2)[0]),), False)]
    inputs, number = 32, 0
    for expansion, outputs, count, first in V2:
        for stride in (first,) + (1,) * (count - 1):
            number += 1
            wide = expansion * inputs
            convolutions = []
            if expansion > 1:
                convolutions.append(_Convolution(f"unit{number}_expand", inputs, wide, 1))
            convolutions += [
                _Convolution(
                    f"unit{number}_depthwise", wide, wide, 3, *strides.of(stride), depthwise=True
                ),
                _Convolution(f"unit{number}_project", wide, outputs, 1, active=False),
            ]
            units.append(_Unit(tuple(convolutions), stride == 1 and inputs == outputs))
            inputs = outputs
    return units
