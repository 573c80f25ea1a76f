"""The paper's searches at full size, for tests of what they take."""

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.flat import FlatTrainer, is_lambda
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.workers import Workers
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.training.loss import cross_entropy, pixel_cross_entropy, with_auxiliary
from dsonas_mx.training.metric import Tally

import mxnet as mx
import numpy as np

from symbols import get_model, network_of
from symbols.segmentation import deeplab, voc_space


def normal(space):
    return get_model("dsonas", Architecture.complete(space), weighted=True)


def small():
    space = SearchSpace(
        levels=2,
        operations=("sep3", "max"),
        blocks=(3, 2),
        width=8,
        num_classes=3,
        in_channels=1,
        image_size=16,
    )
    return normal(space)


def mobile(skeleton):
    space = MobileSpace.skeleton(skeleton, 1.0, None, num_classes=1000, image_size=224)
    return network_of(MobileArchitecture.complete(space), weighted=True)


def segmentation():
    return deeplab(Architecture.complete(voc_space()), None, True, "all", True)


# Of each a network, its loss, and the samples of a device. Each of eight devices takes what each
# of two does. The small one is no search of the paper.
SEARCHES = {
    "small": (small, cross_entropy, (384, 1, 16, 16), (384,)),
    "cifar": (lambda: normal(SearchSpace.cifar10()), cross_entropy, (64, 3, 32, 32), (64,)),
    "imagenet": (lambda: normal(SearchSpace.imagenet()), cross_entropy, (32, 3, 224, 224), (32,)),
    "mobile-cpu": (lambda: mobile("mobile-cpu"), cross_entropy, (32, 3, 224, 224), (32,)),
    "mobile-gpu": (lambda: mobile("mobile-gpu"), cross_entropy, (32, 3, 224, 224), (32,)),
    "voc": (
        segmentation,
        with_auxiliary(0.4, pixel_cross_entropy),
        (10, 3, 513, 513),
        (10, 513, 513),
    ),
}


def graph_of(name, mirror, contexts):
    """The graph of a search, its network initialised, and the shapes of its batches."""
    build, loss, data, label = SEARCHES[name]
    data, label = ((len(contexts) * shape[0], *shape[1:]) for shape in (data, label))
    net = build()
    net.initialize(ctx=contexts)
    return TrainGraph(net, loss, data, label, contexts, mirror), data, label


def search(graph, data, label):
    """A step and an update of weights and of λ, all that a search allocates; of empty images.

    What is returned has to live as long as that is to be there.
    """
    devices = len(graph.learned[0].list_ctx())
    optimizer = mx.optimizer.NAG(learning_rate=0.1, momentum=0.9)
    trainers = {
        kind: FlatTrainer([p for p in graph.learned if is_lambda(p) == of_lambdas], optimizer)
        for kind, of_lambdas in (("weights", False), ("lambdas", True))
    }
    tally = Tally(Workers(), devices)
    batch = np.zeros(data, np.float32), np.zeros(label, np.float32)
    for kind, trainer in trainers.items():
        tally.add(graph.step(kind, *batch, [0] * devices if graph.is_random else None))
        trainer.step(data[0])
    mx.nd.waitall()
    return trainers, tally
