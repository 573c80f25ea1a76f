"""Pieces are timed in turn, each until the device has done it."""

from dsonas_mx.engine import timing
from dsonas_mx.engine.timing import alternate, medians

import mxnet as mx
import pytest


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for `clock.after(seconds)`: work that ends when waited for."""

    class Clock:
        now = 100.0
        pending = 0.0

        def after(self, seconds):
            self.pending += seconds

        def wait(self):
            self.now += self.pending
            self.pending = 0.0

    one = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: one.now)
    monkeypatch.setattr(mx.nd, "waitall", one.wait)
    return one


def test_pieces_take_turns(clock):
    calls = []
    pieces = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = alternate(pieces, rounds=2, warm_up=1)
    assert calls == list("abcabcabc")
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_each_piece_has_its_own_time(clock):
    durations = iter([50, 60, 1, 10, 2, 20, 6, 30])  # the first two while they warm up
    pieces = {name: lambda: clock.after(next(durations)) for name in "ab"}
    assert alternate(pieces, rounds=3) == {"a": [1, 2, 6], "b": [10, 20, 30]}


def test_nobody_pays_for_what_was_started_before(clock):
    clock.after(1000)
    assert alternate({"a": lambda: clock.after(3)}, rounds=1, warm_up=0) == {"a": [3]}


def test_medians():
    assert medians({"a": [5.0, 1.0, 100.0], "b": [2.0, 4.0]}) == {"a": 5.0, "b": 3.0}
