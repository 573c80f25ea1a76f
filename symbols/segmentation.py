"""DeepLabv3 (Chen et al. 2017) over backbones of the ImageNet space and MobileNets (section 4.4).

The heads are GluonCV's: ASPP over the last map, of stride 16, and for training an FCN head over the
map before the strides turn into dilation. Inputs may have any size.
"""

from typing import Any, Dict, NamedTuple, Optional, Tuple, Union

from dsonas_mx._compat import left_alone
from dsonas_mx.engine.tracing import training
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace

from mxnet.gluon import HybridBlock, nn

from .dsonas import Backbone
from .mobilenet import MobileNet
from .operations import CLASSIFIER_INIT, CONVOLUTION_INIT, Layer, Map

RATES = (6, 12, 18)  # of ASPP at stride 16; GluonCV's network, at stride 8, has twice these
ASPP_CHANNELS = 256  # GluonCV's


class Published(NamedTuple):
    """Table 4: mIoU in percent on VOC 2012, and parameters."""

    mean_iou: float
    parameters: float


PUBLISHED = {
    "mobilenet_v1": Published(75.29, 11.2e6),
    "mobilenet_v2": Published(75.70, 4.5e6),
    "DSO-NAS-seg": Published(76.40, 6.7e6),
    "DSO-NAS-cls": Published(76.00, 6.5e6),
}
MOBILENETS = {"mobilenet_v1": 1, "mobilenet_v2": 2}
HEAD_CONVOLUTION = 9 * ASPP_CHANNELS**2 + 2 * ASPP_CHANNELS  # GluonCV's, with its BN


class Features(Backbone):
    """The backbone of an architecture at stride 16.

    Input: B×in_channels×H×W. Outputs: the maps of the last stage but one, and of the last, the
    latter behind the BN and ReLU that the classifier has before its pool.
    """

    def __init__(
        self, architecture: Architecture, weighted: bool = False, fix_gamma: Optional[str] = None
    ) -> None:
        space = architecture.space
        if space.stem != "imagenet" or len(space.blocks) < 2:
            raise ValueError(
                f"segmentation needs the imagenet space, of several stages, got {space.stem}, "
                f"{len(space.blocks)}: search with train/search_voc.py or train/search_imagenet.py"
            )
        super().__init__(architecture, weighted, fix_gamma, dilated=True)
        self.channels = tuple(channels for channels, _ in space.stage_shapes[-2:])
        self._stages = len(space.blocks)

    def hybrid_forward(self, F: Any, x: Map, **p: Map) -> Tuple[Map, Map]:
        third = x
        for _, stage, output in self.walk(F, x, p):
            x = output
            if stage == self._stages - 1:
                third = x
        return third, self.ended(F, x, p)


class ASPP(HybridBlock):
    """GluonCV's ASPP, whose pooled branch has the size of its input, whatever that is.

    Input: B×C×H×W. Output: B×256×H×W.
    """

    def __init__(self, channels: int, norm: Dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with left_alone():
            from gluoncv.model_zoo.deeplabv3 import _ASPP

        with self.name_scope():
            aspp = _ASPP(channels, RATES, nn.BatchNorm, norm)
        *self._spatial, pooled = aspp.concurent
        self._pool = pooled.gap  # a pooled map of one pixel is enlarged by repeating it
        for index, branch in enumerate([*self._spatial, self._pool]):
            self.register_child(branch, f"branch{index}")
        self.project = aspp.project

    def hybrid_forward(self, F: Any, x: Map) -> Map:
        pooled = F.broadcast_like(self._pool(x), x, lhs_axes=(2, 3), rhs_axes=(2, 3))
        return self.project(F.concat(*(branch(x) for branch in self._spatial), pooled, dim=1))


class DeepLabV3(Layer):
    """A backbone under ASPP, a 3×3 convolution and a classifier of pixels.

    Input: images, B×3×H×W. Output: logits, B×num_classes×H×W; with an auxiliary head these and the
    head's. In the graph of a training they are as small as the heads' maps, and the loss enlarges
    them. What `dsonas_mx.search.search` wants to know of a network is the backbone's.

    Parameters
    ----------
    backbone : Features or MobileNet
    num_classes : int
        With the background, if there is one.
    auxiliary : bool
        Add GluonCV's FCN head.
    fix_gamma : bool
        The heads' BN scales are one, too.
    """

    def __init__(
        self,
        backbone: Union[Features, MobileNet],
        num_classes: int,
        auxiliary: bool = False,
        fix_gamma: bool = False,
    ) -> None:
        super().__init__(prefix="")
        with left_alone():
            from gluoncv.model_zoo.fcn import _FCNHead

        third, last = backbone.channels
        norm = {"scale": not fix_gamma}
        self.backbone = backbone
        self.num_classes = num_classes
        if isinstance(backbone, Features):  # what a search asks of a network
            self.architecture, self.packed = backbone.architecture, backbone.packed
            self.lambda_names, self.never_empty = backbone.lambda_names, backbone.never_empty
        self.aspp = ASPP(last, norm, prefix="aspp_")
        self.head = nn.HybridSequential(prefix="head_")
        with self.head.name_scope():
            self.head.add(
                nn.Conv2D(ASPP_CHANNELS, 3, padding=1, use_bias=False, in_channels=ASPP_CHANNELS),
                nn.BatchNorm(in_channels=ASPP_CHANNELS, **norm),
                nn.Activation("relu"),
                nn.Dropout(0.1),
                nn.Conv2D(num_classes, 1, in_channels=ASPP_CHANNELS),
            )
        heads = [self.aspp, self.head]
        self.has_auxiliary = auxiliary
        if auxiliary:
            self.auxiliary = nn.HybridSequential(prefix="auxiliary_")  # it takes no prefix itself
            with self.auxiliary.name_scope():
                self.auxiliary.add(_FCNHead(third, num_classes, norm_kwargs=norm))
            heads.append(self.auxiliary)
        for head in heads:
            for name, parameter in head.collect_params().items():
                if name.endswith("conv1_weight") and parameter.shape[0] == num_classes:
                    parameter.init = CLASSIFIER_INIT
                elif name.endswith("_weight"):
                    parameter.init = CONVOLUTION_INIT
                else:
                    parameter.wd_mult = 0

    def hybrid_forward(self, F: Any, x: Map) -> Any:
        third, last = self.backbone(x)
        logits = _enlarged(F, self.head(self.aspp(last)), x)
        if not self.has_auxiliary:
            return logits
        return logits, _enlarged(F, self.auxiliary(third), x)


def _enlarged(F: Any, logits: Map, image: Map) -> Map:
    if training(F) is not None:
        return logits
    return F.contrib.BilinearResize2D(logits, image, mode="like")


def deeplab(
    network: Union[Architecture, str],
    num_classes: Optional[int] = None,
    weighted: bool = False,
    fix_gamma: Optional[str] = None,
    auxiliary: bool = False,
) -> DeepLabV3:
    """The segmentation network of an architecture, weighted or derived, or of a MobileNet.

    Parameters
    ----------
    network : Architecture or {'mobilenet_v1', 'mobilenet_v2'}
    num_classes : int, optional
        The architecture's by default.
    weighted
        See `DSONAS`.
    fix_gamma
        See `DSONAS`.
    auxiliary : bool
        With the head for training.

    Returns
    -------
    DeepLabV3
        Not initialised.
    """
    if isinstance(network, Architecture):
        fixed = (fix_gamma or ("all" if weighted else "none")) == "all"
        backbone = Features(network, weighted, fix_gamma)
        classes = num_classes or network.space.num_classes
        return DeepLabV3(backbone, classes, auxiliary, fixed)
    if network not in MOBILENETS:
        raise ValueError(f"no network {network!r}; known are {', '.join(MOBILENETS)}")
    if num_classes is None:
        raise ValueError(f"{network} needs num_classes")
    return DeepLabV3(MobileNet(MOBILENETS[network]), num_classes, auxiliary)


def voc_space(**changes: Any) -> SearchSpace:
    """The paper's: that of ImageNet, for the 21 classes of VOC and crops of 513."""
    return SearchSpace.imagenet(**{"num_classes": 21, "image_size": 513, **changes})


def beside_published(parameters: int, model: Optional[str] = None) -> str:
    """How many parameters a network has as table 4 counts them, and those of table 4.

    The published networks have no 3×3 convolution between ASPP and classifier: the two MobileNets,
    and by the count of its backbone on ImageNet DSO-NAS-cls.

    Parameters
    ----------
    parameters : int
        All that the network has.
    model : str, optional
        The MobileNet that it is on; else it is one that was found.
    """
    names = ["DSO-NAS-seg", "DSO-NAS-cls"] if model is None else [model]
    published = ", ".join(f"{PUBLISHED[name].parameters / 1e6:.1f}M {name}" for name in names)
    own = parameters - HEAD_CONVOLUTION
    return f"{own:,} without the 3×3 convolution of the head; table 4: {published}"
