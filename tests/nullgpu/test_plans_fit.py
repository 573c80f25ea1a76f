"""What a training allocates on its devices, beside what was foretold and what there is."""

import json

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.flat import FlatTrainer, is_lambda
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.memory import Allowance
from dsonas_mx.engine.workers import Workers
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.training.loss import cross_entropy, pixel_cross_entropy, with_auxiliary
from dsonas_mx.training.metric import Tally

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model, network_of
from symbols.segmentation import deeplab, voc_space

CARDS = (2000, 4000, 8000, 24000)  # MB
NEAR = 0.05  # of what was foretold
# MB that the smallest plan may take.
LEAST = {"cifar": 1000, "imagenet": 900, "voc": 2600, "mobile-cpu": 2600, "mobile-gpu": 2600}


def normal(space):
    return get_model("dsonas", Architecture.complete(space), weighted=True)


def mobile(skeleton):
    space = MobileSpace.skeleton(skeleton, 1.0, None, num_classes=1000, image_size=224)
    return network_of(MobileArchitecture.complete(space), weighted=True)


def segmentation():
    return deeplab(Architecture.complete(voc_space()), None, True, "all", True)


# Of the paper's searches a network, its loss, and the samples of a device. Each of eight devices
# takes what each of two does.
SEARCHES = {
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


def graph_of(name, allowance, contexts):
    """The graph of a search, its network initialised, and the shapes of its batches."""
    build, loss, data, label = SEARCHES[name]
    data, label = ((len(contexts) * shape[0], *shape[1:]) for shape in (data, label))
    net = build()
    net.initialize(ctx=contexts)
    return TrainGraph(net, loss, data, label, contexts, allowance), data, label


def measure(name, mirror):
    """Print what a search takes by its plan, and what two steps and updates of it allocated."""
    contexts = [mx.gpu(0), mx.gpu(1)]
    allowance = Allowance.of(mirror, contexts)  # before anything is allocated
    before = mx.context.gpu_memory_info(0)[0]
    graph, data, label = graph_of(name, allowance, contexts)
    optimizer = mx.optimizer.NAG(learning_rate=0.1, momentum=0.9)
    trainers = {
        kind: FlatTrainer([p for p in graph.learned if is_lambda(p) == of_lambdas], optimizer)
        for kind, of_lambdas in (("weights", False), ("lambdas", True))
    }
    tally = Tally(Workers(), len(contexts))
    batch = np.zeros(data, np.float32), np.zeros(label, np.float32)
    for kind, trainer in trainers.items():
        tally.add(graph.step(kind, *batch, [0] * len(contexts) if graph.is_random else None))
        trainer.step(data[0])
    mx.nd.waitall()
    taken = (before - mx.context.gpu_memory_info(0)[0]) / 2**20
    print(json.dumps({"foretold": graph.footprint.total, "taken": taken}))


def plans():
    """Print how much of forward is computed again on each card."""
    graph, _, _ = graph_of("cifar", "auto", [mx.gpu(0), mx.gpu(1)])
    others = graph._others.total
    print(json.dumps([graph._planner.plan(0.9 * card - others).again for card in CARDS]))


@pytest.fixture
def measured(in_child):
    def run(name, mirror, **variables):
        program = f"import test_plans_fit; test_plans_fit.measure({name!r}, {mirror!r})"
        figures = json.loads(in_child(program, **variables).splitlines()[-1])
        assert figures["taken"] == pytest.approx(figures["foretold"], rel=NEAR)
        return figures

    return run


def test_each_card_has_a_plan_of_its_own(in_child):
    """The more memory, the less is computed again, to nothing."""
    again = json.loads(in_child("import test_plans_fit; test_plans_fit.plans()").splitlines()[-1])
    assert again == sorted(set(again), reverse=True) and again[-1] == 0


@pytest.mark.parametrize("card", CARDS)
def test_a_plan_is_within_its_card(card, measured):
    figures = measured("cifar", "auto", NULLGPU_MB=str(card))
    assert figures["foretold"] <= 0.9 * card and figures["taken"] <= card


@pytest.mark.parametrize("name", LEAST)
def test_the_smallest_plan(name, measured):
    assert measured(name, "least")["taken"] <= LEAST[name]
