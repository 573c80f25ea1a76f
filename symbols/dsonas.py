"""The network: stem, stages of blocks with reductions between them, classifier, auxiliary tower.

The supernet and the found network are one class over two architectures: the complete one, weighted
by λ, and a pruned one without.
"""

from itertools import repeat
from typing import Any, Dict, Iterator, List, Optional, Tuple

from dsonas_mx.engine.tracing import PROGRESS, derived_inputs, native_tracing, training
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import SearchSpace
from dsonas_mx.space.scales import lambda_parameters

import mxnet as mx

from .block import Block, Reduction
from .drop_path import DropPath
from .operations import CLASSIFIER_INIT, Layer, Map, Parameters, batch_norm_relu, conv_bn_relu

FIX_GAMMA = ("all", "operations", "none")
AUXILIARY_STAGE = {"cifar": 2, "imagenet": 3}  # the tower stands behind this reduction
AUXILIARY_CHANNELS = (128, 768)


class Backbone(Layer):
    """Stem, and stages of blocks with reductions between them, weighted or derived.

    Parameters
    ----------
    architecture
        See `DSONAS`.
    weighted
        See `DSONAS`.
    fix_gamma
        See `DSONAS`.
    dilated : bool
        The last reduction has stride 1, and the operations behind it dilation 2 instead, so that
        the same weights see the same pixels of maps of twice the size.

    Attributes
    ----------
    packed : dict
        For each parameter that holds one part a live connection or operation, its axis and what
        the parts are of: how `dsonas_mx.search.search` takes parameters over into a smaller
        network.
    """

    def __init__(
        self,
        architecture: Architecture,
        weighted: bool = False,
        fix_gamma: Optional[str] = None,
        dilated: bool = False,
    ) -> None:
        super().__init__(prefix="")  # parameters are called the same in every process
        fix_gamma = fix_gamma or ("all" if weighted else "none")
        if fix_gamma not in FIX_GAMMA:
            raise ValueError(f"fix_gamma must be {', '.join(FIX_GAMMA)}, got {fix_gamma!r}")
        space = architecture.space
        self.architecture = architecture
        self.weighted = weighted
        self._fix = fix_gamma == "all"
        self._dilated = len(space.blocks) if dilated else None  # which stage
        self.packed: Dict[str, Tuple[int, Tuple[Any, ...]]] = {}
        self._scales = lambda_parameters(architecture) if weighted else {}
        self._declare_stem(space)
        self._rows = self._build_rows(architecture, fix_gamma)
        self.declare_batch_norm("final_bn", space.stage_shapes[-1][0], self._fix)

    def _declare_stem(self, space: SearchSpace) -> None:
        width = space.width
        self._stem: List[Tuple[str, int, int]] = [("stem", width, 1)]  # name, channels, stride
        if space.stem == "imagenet":
            self._stem = [("stem1", width // 2, 2), ("stem2", width, 2)]
        inputs = space.in_channels
        for name, channels, _ in self._stem:
            self.declare_conv_bn(name, (channels, inputs, 3, 3), self._fix)
            inputs = channels

    def _build_rows(self, architecture: Architecture, fix_gamma: str) -> List[Tuple[Any, str, int]]:
        """Blocks and reductions in order, each with the name of its λ and the stage behind it."""
        space = architecture.space
        rows: List[Tuple[Any, str, int]] = []
        for index, (stage, position) in enumerate(space.block_positions):
            channels = space.stage_shapes[stage - 1][0]
            if position == 1 and stage > 1:
                rows.append(self._reduction(architecture, stage - 1, fix_gamma))
            structure = space.structure_of(index)
            prefix = f"stage{stage}_block{position}_"
            dilation = 2 if stage == self._dilated else 1
            block = Block(
                architecture, structure, channels, position == 1, fix_gamma, dilation, prefix=prefix
            )
            self.register_child(block)
            if block.outputs:
                self.packed[f"{prefix}output_weight"] = (1, block.outputs)
            name = "lambdas" if space.scope == "share" else f"{prefix}lambdas"
            rows.append((block, self._declare_lambdas(name), stage))
        return rows

    def _reduction(
        self, architecture: Architecture, stage: int, fix_gamma: str
    ) -> Tuple[Reduction, str, int]:
        branches = architecture.reductions[stage - 1]
        channels = architecture.space.stage_shapes[stage - 1][0]
        stride = 1 if stage + 1 == self._dilated else 2
        reduction = Reduction(branches, channels, fix_gamma, stride, prefix=f"reduction{stage}_")
        self.register_child(reduction)
        return reduction, self._declare_lambdas(f"reduction{stage}_lambdas"), stage + 1

    def _declare_lambdas(self, name: str) -> str:
        """Declare a vector of the live scales; '' if there is nothing to scale."""
        if name not in self._scales:
            return ""
        if name not in self.packed:
            self.declare(name, self._scales[name].shape, mx.init.One(), wd_mult=0)
            self.packed[name] = (0, tuple(self._scales[name].tolist()))
        return name

    @property
    def lambda_names(self) -> Tuple[str, ...]:
        """Parameters that hold λ, in the order of the network."""
        return tuple(dict.fromkeys(name for _, name, _ in self._rows if name))

    @property
    def never_empty(self) -> Tuple[str, ...]:
        """Parameters of λ that a search must not take to zero as a whole: those of reductions."""
        return tuple(name for name in self.lambda_names if name.startswith("reduction"))

    def walk(
        self, F: Any, x: Map, p: Parameters, dropping: Optional[Iterator[Map]] = None
    ) -> Iterator[Tuple[Layer, int, Map]]:
        """Every block and reduction in order, with the stage it leads to or is in, and its map."""
        dropping = dropping or repeat(None)
        for name, channels, stride in self._stem:
            x = conv_bn_relu(F, x, p, name, channels, 3, self._fix, stride)
        for layer, lambdas, stage in self._rows:
            inputs = [_of_layer(F, p[lambdas], layer)] if lambdas else []
            if isinstance(layer, Block):
                scales = next(dropping)
                inputs = inputs if scales is None else [None, scales]
            x = layer(x, *inputs)
            yield layer, stage, x

    def ended(self, F: Any, x: Map, p: Parameters) -> Map:
        """BN and ReLU behind the last block."""
        if training(F) is not None and native_tracing(F) is None:
            x = F.reshape(x, (0, 0, 0, 0))  # out of MKLDNN's layout, as where a chain is cut
        return batch_norm_relu(F, x, p, "final_bn", self._fix)


def _of_layer(F: Any, lambdas: Map, layer: Layer) -> Map:
    """The scales that a layer uses: a copy of its own, where it may get an executor of its own.

    In both cases its gradients of λ are added up before those of all layers. The attribute keeps
    MXNet from taking all copies for one.
    """
    if native_tracing(F) is not None or derived_inputs(F) is not None:
        return lambdas
    with mx.AttrScope(__layer__=layer.prefix):
        return F.identity(lambdas)


class DSONAS(Backbone):
    """The network of an architecture, for training a supernet or what was found.

    Input: images, B×in_channels×H×W. Output: logits, B×num_classes; with an auxiliary tower these
    and the tower's logits.

    Parameters
    ----------
    architecture : Architecture
    weighted : bool
        Give every live connection, and every branch of a reduction, a scale λ, which starts at 1.
    fix_gamma : {'all', 'operations', 'none'}, optional
        Which BN scales are fixed to one: all of them (the paper, for pre-training and search),
        those of operations, reductions and shortcuts (the release), or none (training what was
        found). The default is ``'all'`` if weighted, else ``'none'``.
    dropout : float
        Probability of dropping a feature before the classifier.
    auxiliary : bool
        Add the tower of section 4.2, behind the second (CIFAR) or third (ImageNet) reduction.
    drop_path : float
        Final rate of drop path (see `DropPath`), in the graphs of a `TrainGraph` alone. It grows
        with the parameter ``'progress'``, which `Fit` sets.
    """

    def __init__(
        self,
        architecture: Architecture,
        weighted: bool = False,
        fix_gamma: Optional[str] = None,
        dropout: float = 0.0,
        auxiliary: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(architecture, weighted, fix_gamma)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path must be in [0, 1), got {drop_path}")
        if drop_path and weighted:
            raise ValueError("drop_path is for training what was found, not for scales λ")
        space = architecture.space
        self._dropout = dropout
        channels = space.stage_shapes[-1][0]
        self.declare("fc_weight", (space.num_classes, channels), CLASSIFIER_INIT)
        self.declare("fc_bias", (space.num_classes,), mx.init.Zero(), wd_mult=0)
        self._drop_path = None
        if drop_path:
            self._drop_path = DropPath(architecture, drop_path)
            self.declare(PROGRESS, (1,), mx.init.Zero(), grad_req="null", differentiable=False)
        self._tower_after = None
        if auxiliary:
            self._tower_after = self._build_tower(space)

    def _build_tower(self, space: SearchSpace) -> int:
        stage = AUXILIARY_STAGE[space.stem]
        if space.num_reductions < stage:
            raise ValueError(
                f"`auxiliary` needs a network of more than {stage} stages, got "
                f"{len(space.blocks)}: give 0 for no tower"
            )
        self._tower = Auxiliary(space, space.stage_shapes[stage], prefix="auxiliary_")
        return stage + 1

    def hybrid_forward(self, F: Any, x: Map, **p: Map) -> Map:
        dropping = None
        if self._drop_path is not None and training(F) is not None:
            dropping = iter(self._drop_path.scales(F, x, p[PROGRESS]))
        tower = None
        for layer, stage, output in self.walk(F, x, p, dropping):
            x = output
            if isinstance(layer, Reduction) and stage == self._tower_after:
                tower = self._tower(x)
        x = self.ended(F, x, p)
        x = F.flatten(F.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg"))
        if self._dropout:
            x = F.Dropout(x, p=self._dropout)
        classes = self.architecture.space.num_classes
        x = F.FullyConnected(x, p["fc_weight"], p["fc_bias"], num_hidden=classes)
        return x if tower is None else (x, tower)


class Auxiliary(Layer):
    """The auxiliary tower: BN, ReLU, average pool, conv1×1 128, conv 768 over what is left, fc.

    The pool is 5×5 of stride 3 for CIFAR and of stride 2 for ImageNet; the last convolution is
    2×2. Input: B×C×S×S. Output: logits, B×num_classes.
    """

    def __init__(self, space: SearchSpace, shape: Tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        channels, side = shape
        self._stride = 3 if space.stem == "cifar" else 2
        self._num_classes = space.num_classes
        least = 5 + self._stride  # what leaves 2×2 to the last convolution
        if side < least:
            raise ValueError(
                f"`auxiliary` needs maps of at least {least}×{least} where the tower stands, got "
                f"{side}×{side}: give 0 for no tower, or larger images"
            )
        first, second = AUXILIARY_CHANNELS
        with self.name_scope():
            self.declare_batch_norm("bn", channels, False)
            self.declare_conv_bn("1x1", (first, channels, 1, 1), False)
            self.declare_conv_bn("2x2", (second, first, 2, 2), False)
            self.declare("fc_weight", (space.num_classes, second), CLASSIFIER_INIT)
            self.declare("fc_bias", (space.num_classes,), mx.init.Zero(), wd_mult=0)

    def hybrid_forward(self, F: Any, x: Map, **p: Map) -> Map:
        first, second = AUXILIARY_CHANNELS
        x = batch_norm_relu(F, x, p, "bn", False)
        x = F.Pooling(x, kernel=(5, 5), stride=(self._stride,) * 2, pool_type="avg")
        x = conv_bn_relu(F, x, p, "1x1", first, 1, False)
        x = F.Convolution(x, p["2x2_conv_weight"], num_filter=second, kernel=(2, 2), no_bias=True)
        x = batch_norm_relu(F, x, p, "2x2_bn", False)
        x = F.flatten(F.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg"))
        return F.FullyConnected(x, p["fc_weight"], p["fc_bias"], num_hidden=self._num_classes)
