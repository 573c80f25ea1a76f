"""What a training allocates on its devices, beside what was foretold and what there is."""

import json

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.engine.flat import FlatTrainer, is_lambda
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.memory import Allowance
from dsonas_mx.engine.workers import Workers
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture
from dsonas_mx.training.loss import cross_entropy
from dsonas_mx.training.metric import Tally

import mxnet as mx
import numpy as np
import pytest

from symbols import get_model, network_of

CARDS = (2000, 4000, 8000, 24000)  # MB
NEAR = 0.05  # of what was foretold


def normal(space):
    return get_model("dsonas", Architecture.complete(space), weighted=True)


def mobile(skeleton):
    space = MobileSpace.skeleton(skeleton, 1.0, None, num_classes=1000, image_size=224)
    return network_of(MobileArchitecture.complete(space), weighted=True)


# Of the paper's searches a network, its loss, and the samples of a device. Each of eight devices
# takes what each of two does.
SEARCHES = {
    "cifar": (lambda: normal(SearchSpace.cifar10()), cross_entropy, (64, 3, 32, 32), (64,)),
    "mobile": (lambda: mobile("mobile-cpu"), cross_entropy, (32, 3, 224, 224), (32,)),
}


def measure(name, mirror):
    """Print what a search takes by its plan, and what two steps and updates of it allocated."""
    contexts = [mx.gpu(0), mx.gpu(1)]
    allowance = Allowance.of(mirror, contexts)  # before anything is allocated
    before = mx.context.gpu_memory_info(0)[0]
    build, loss, data, label = SEARCHES[name]
    data, label = ((len(contexts) * shape[0], *shape[1:]) for shape in (data, label))
    net = build()
    net.initialize(ctx=contexts)
    graph = TrainGraph(net, loss, data, label, contexts, allowance)
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
    figures = {"foretold": graph.footprint.total, "taken": taken, "again": graph.plan.again}
    print(json.dumps(figures))


@pytest.fixture
def measured(in_child):
    def run(name, mirror, **variables):
        program = f"import test_plans_fit; test_plans_fit.measure({name!r}, {mirror!r})"
        return json.loads(in_child(program, **variables).splitlines()[-1])

    return run


def test_each_card_has_a_plan_of_its_own(measured):
    """The more memory, the less is computed again, to nothing; and each is within its card."""
    again = []
    for card in CARDS:
        figures = measured("cifar", "auto", NULLGPU_MB=str(card))
        assert figures["foretold"] <= 0.9 * card and figures["taken"] <= card
        assert figures["taken"] == pytest.approx(figures["foretold"], rel=NEAR)
        again.append(figures["again"])
    assert again == sorted(set(again), reverse=True) and again[-1] == 0


def test_what_is_allocated_was_foretold(measured):
    figures = measured("mobile", "least")
    assert figures["taken"] == pytest.approx(figures["foretold"], rel=NEAR)
