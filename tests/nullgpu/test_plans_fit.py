"""What a training allocates on its devices, beside what was foretold and what there is."""

import json

from dsonas_mx.engine.memory import Allowance

import mxnet as mx
import pytest
from searches import graph_of, search

CARDS = (2000, 4000, 8000, 24000)  # MB
NEAR = 0.05  # of what was foretold
# MB that the smallest plan may take.
LEAST = {"cifar": 1000, "imagenet": 900, "voc": 2600, "mobile-cpu": 2600, "mobile-gpu": 2600}


def measure(name, mirror, devices=2):
    """Print what a search takes by its plan, and the most that two steps and updates allocated."""
    contexts = [mx.gpu(number) for number in range(devices)]
    allowance = Allowance.of(mirror, contexts)  # before anything is allocated
    before = [mx.context.gpu_memory_info(number)[0] for number in range(devices)]
    graph, *shapes = graph_of(name, allowance, contexts)
    kept = search(graph, *shapes)  # noqa: F841
    after = [mx.context.gpu_memory_info(number)[0] for number in range(devices)]
    taken = max(b - a for b, a in zip(before, after)) / 2**20
    print(json.dumps({"foretold": graph.footprint.total, "taken": taken}))


def plans():
    """Print how much of forward is computed again on each card."""
    graph, _, _ = graph_of("cifar", "auto", [mx.gpu(0), mx.gpu(1)])
    others, planner = graph._others.total, graph._planner()
    print(json.dumps([planner.plan(0.9 * card - others).again for card in CARDS]))


@pytest.fixture
def measured(in_child):
    def run(name, mirror, devices=2, **variables):
        program = f"import test_plans_fit; test_plans_fit.measure({name!r}, {mirror!r}, {devices})"
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagenet", "voc", "mobile-cpu", "mobile-gpu"])
def test_the_smallest_plan_on_eight(name, measured):
    assert measured(name, "least", 8, NULLGPU_DEVICES="8")["taken"] <= LEAST[name]
