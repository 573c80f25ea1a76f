"""Deductions: a fake machine, whose times are known, and what is made of them."""

from dsonas_mx import Architecture
from dsonas_mx.engine import timing
from dsonas_mx.latency import deductions as latency_deductions
from dsonas_mx.latency.deductions import (
    Deductions,
    Saving,
    alike,
    blocks_by_shape,
    savings,
    without_each,
    work,
)

import numpy as np
import pytest

from symbols import get_model

TIMES = {
    "sep3": 30.0,
    "sep5": 40.0,
    "max": 10.0,
    "avg": 8.0,
}  # ms of an operation; a term takes 1, a slice 3
BASE = 5.0


class Machine:
    """Runs networks of one block in known times, with the noise it is told to make."""

    def __init__(self):
        self.now = 0.0
        self.order = []
        self.noise = lambda run: 0.0
        self.bound = []

    def deploy(self, architecture, shape, device):
        self.bound.append((architecture, shape))
        number = len(self.bound)
        space = architecture.space
        milliseconds = BASE + sum(
            TIMES[node.split(".")[1]] + max(0, len(architecture.live_sources(0, node)) - 1)
            for node in architecture.live_nodes(0)
        )
        milliseconds += 3 * len(architecture.live_sources(0, "output"))
        milliseconds *= space.width

        def run():
            self.order.append(number)
            self.now += (milliseconds + self.noise(len(self.order))) / 1e3

        return run


@pytest.fixture
def machine(monkeypatch):
    one = Machine()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: one.now)
    monkeypatch.setattr(latency_deductions, "deploy", one.deploy)
    return one


def deductions(**options):
    return Deductions(lambda architecture: architecture, **{"rounds": 3, **options})


def named(space, row):
    return {edge.name: value for edge, value in zip(space.connections, row)}


def chain(space):
    """1.sep3 and 2.max, which takes the input and 1.sep3; both reach the output."""
    kept = {"input->2.max", "1.sep3->2.max", "2.max->output", "1.sep3->output"}
    mask = [edge.name in kept for edge in space.connections]
    return Architecture(
        space, (mask,) * space.num_structures, ((True, True),) * space.num_reductions
    )


def test_what_dies_with_a_connection_counts_in_every_block(machine, tiny_space):
    space = tiny_space(blocks=(3, 2), width=1)  # 3 blocks of width 1, 2 of width 2: times 7
    saved = named(space, deductions()(chain(space))[0])
    assert saved["input->2.max"] == pytest.approx(7 * 1)  # a term
    assert saved["1.sep3->2.max"] == pytest.approx(7 * 1)
    assert saved["2.max->output"] == pytest.approx(7 * (10 + 1 + 3))  # operation, term, slice
    assert saved["1.sep3->output"] == pytest.approx(7 * 3)
    assert sum(value > 0 for value in saved.values()) == 4  # nothing for the dead ones


def test_full_scope_has_a_row_a_block(machine, tiny_space):
    space = tiny_space(scope="full", blocks=(1, 2), width=1)
    saved = deductions()(chain(space))
    position = [edge.name for edge in space.connections].index("2.max->output")
    assert saved[:, position].tolist() == pytest.approx([14, 28, 28])


def test_same_structure_is_measured_once(machine, tiny_space):
    space = tiny_space()
    measure = deductions()
    first = measure(chain(space))
    bound = len(machine.bound)
    np.testing.assert_array_equal(measure(chain(space)), first)
    assert len(machine.bound) == bound
    # Blocks of one shape share it between networks of other depths.
    np.testing.assert_allclose(measure(chain(tiny_space(blocks=(2, 2)))), 2 * first)
    assert len(machine.bound) == bound
    measure(chain(tiny_space(width=6)))
    assert len(machine.bound) > bound


def test_blocks_of_equal_work_share_a_measurement(machine, tiny_space):
    """Of the two terms that can go from a sum of two, one is measured; so at each of two shapes."""
    space = tiny_space()
    deductions()(chain(space))
    copies = 2 * latency_deductions.COPIES
    assert len(machine.bound) == copies + 2 * 3  # without a term, 2.max, a slice


def test_network_has_one_block_of_the_stage(machine, tiny_space):
    deductions(batch_size=8)(chain(tiny_space(stem="imagenet", blocks=(3, 2), image_size=64)))
    seen = {(a.space.blocks, a.space.width, a.space.stem, shape) for a, shape in machine.bound}
    assert seen == {((1,), 4, "cifar", (8, 1, 16, 16)), ((1,), 8, "cifar", (8, 1, 8, 8))}


def test_networks_take_turns(machine, tiny_space):
    """In groups: all of one run once in each round, and it ends before the next."""
    space = tiny_space(levels=3, operations=("sep3", "sep5", "max", "avg"), blocks=(1,))
    deductions(rounds=3)(Architecture.complete(space))
    order, rounds = machine.order, 3 + 2
    turns = {}
    for position, number in enumerate(order):
        turns.setdefault(number, []).append(position)
    assert all(len(positions) == rounds for positions in turns.values())
    group = latency_deductions.COPIES + 8
    assert len(turns) > group
    assert order[: rounds * group] == order[:group] * rounds


def test_drift_of_the_machine_decides_nothing(machine, tiny_space):
    """A machine that gets slower all the time, by less in a round than a connection saves."""
    space = tiny_space(blocks=(1,), width=1)
    machine.noise = lambda run: 0.005 * run
    saved = named(space, deductions()(chain(space))[0])
    assert saved["2.max->output"] == pytest.approx(14, abs=0.1)
    assert saved["input->2.max"] == pytest.approx(1, abs=0.1)


def test_interruptions_decide_nothing(machine, tiny_space):
    """Another program takes 500 ms in two of three runs."""
    space = tiny_space(blocks=(1,), width=1)
    machine.noise = lambda run: 500.0 if run % 3 else 0.0
    saved = named(space, deductions(rounds=12)(chain(space))[0])
    assert saved["2.max->output"] == pytest.approx(14)
    assert saved["input->2.max"] == pytest.approx(1)


def test_effect_inside_the_noise_has_no_penalty(machine, tiny_space):
    """Copies of one network come out 2 ms apart: a term of 1 ms is not seen, an operation is."""
    space = tiny_space(blocks=(1,), width=1)
    generator = np.random.RandomState(0)
    machine.noise = lambda run: generator.uniform(0, 8)
    measure = deductions()
    architecture = chain(space)
    saved = named(space, measure(architecture)[0])
    assert saved["input->2.max"] == 0
    assert saved["2.max->output"] > 8
    raw, noise = measure.measured(architecture)
    live = np.array(architecture.kept)
    assert (noise[live] > 1).all() and (noise[~live] == 0).all()
    np.testing.assert_array_equal(measure(architecture) > 0, raw > noise)


def test_noise_of_blocks_adds_up(machine, tiny_space, monkeypatch):
    """Blocks of one shape share an error; those of two shapes err apart: √((3·n)² + (4·m)²)."""
    space = tiny_space(blocks=(3, 4))
    noises = dict(zip(space.stage_shapes, (2.0, 3.0)))
    monkeypatch.setattr(
        latency_deductions,
        "savings",
        lambda full, others, rounds: {key: Saving(1.0, noises[key[0]]) for key in others},
    )
    measure = deductions()
    saved, noise = measure.measured(chain(space))
    assert saved.max() == 7 and noise.max() == pytest.approx((6**2 + 12**2) ** 0.5)
    assert not measure(chain(space)).any()  # 7 ms are inside 13.4


def test_network_that_gets_slower_saves_nothing(machine, tiny_space, monkeypatch):
    monkeypatch.setitem(TIMES, "max", -50.0)
    space = tiny_space(blocks=(1,), width=10)
    architecture = chain(space)
    saved = named(space, deductions()(architecture)[0])
    assert saved["2.max->output"] == 0
    raw = named(space, deductions().measured(architecture)[0][0])
    assert raw["2.max->output"] == pytest.approx(-460)


def test_second_round_far_from_the_fastest_is_noise(machine):
    def taking(times):
        rest = iter([0.0, 0.0, *times])  # two to warm up

        def run():
            machine.now += next(rest) / 1e3

        return run

    fast = {"one": lambda: taking([1.0, 5.0, 9.0])}
    saving = savings(lambda: taking([20.0] * 3), fast, rounds=3)["one"]
    assert saving == pytest.approx((19.0, 4.0))


def test_copies_that_differ_are_the_noise():
    fastest = [latency_deductions.Fastest(ms, 0.0) for ms in (1.0, 2.0, 3.0, 6.0)]
    assert alike(fastest) == (2.5, pytest.approx(2 * np.std([1, 2, 3, 6], ddof=1)))


def test_work_is_the_same_whatever_maps_are_called(tiny_space):
    space = tiny_space(levels=3)
    mask = (True,) * len(space.connections)
    fewer = {
        e.name: work(space, without_each(space, mask)[i]) for i, e in enumerate(space.connections)
    }
    assert fewer["1.sep3->3.max"] == fewer["2.max->3.max"]
    assert fewer["1.sep3->3.max"] != fewer["1.sep3->3.sep3"]  # another operation's own sum
    assert fewer["1.sep3->3.max"] != fewer["1.sep3->2.max"]  # a sum of fewer terms
    assert fewer["1.sep3->output"] == fewer["2.sep3->output"]
    assert fewer["3.sep3->output"] != fewer["2.sep3->output"]  # the operation dies


def test_blocks_by_shape(tiny_space):
    share = tiny_space(blocks=(3, 2))
    assert blocks_by_shape(share, 0) == {(4, 8): 3, (8, 4): 2}
    full = tiny_space(scope="full", blocks=(3, 2))
    assert [blocks_by_shape(full, i) for i in (0, 3)] == [{(4, 8): 1}, {(8, 4): 1}]


def test_nothing_left_saves_nothing(machine, tiny_space):
    space = tiny_space()
    nothing = Architecture.from_lambdas(space, np.zeros(len(space.connections)))
    assert not deductions()(nothing).any()
    assert not machine.bound


def test_real_blocks_are_faster_without_their_operations(tiny_space):
    """The last connection of a block: without it, all three operations are gone."""
    space = tiny_space(operations=("sep7",), levels=3, blocks=(1,), width=32, image_size=16)
    kept = {"1.sep7->2.sep7", "2.sep7->3.sep7", "3.sep7->output"}
    mask = [edge.name in kept for edge in space.connections]
    measure = Deductions(lambda a: get_model("dsonas", a), rounds=20)
    raw, _ = measure.measured(Architecture(space, (mask,), ()))
    assert (raw[0][np.array(mask)] > 0).all()
    assert not raw[0][~np.array(mask)].any()
