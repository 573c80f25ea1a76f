"""Recomputation: the same bits for less memory, plans that fit, and what they predict."""

import json
import math

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost.count import count
from dsonas_mx.engine import native, trial
from dsonas_mx.engine.chain import Chain
from dsonas_mx.engine.forward import Forward
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.marking import ATTRIBUTE, mark
from dsonas_mx.engine.memory import Allowance, parse_mirror
from dsonas_mx.engine.recompute import Plan, Planner, Taken, TooLarge
from dsonas_mx.engine.trial import reported
from dsonas_mx.training.loss import cross_entropy, with_auxiliary

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

from symbols import get_model

UNTOUCHED = 7.0


class Segmenter(HybridBlock):
    """Residual blocks at half the size, a skip from the full size, and logits of every pixel."""

    def __init__(self, blocks=16, channels=8, classes=3):
        super().__init__(prefix="segmenter_")  # parameters are called the same in every network
        with self.name_scope():
            self.stem = self.conv_bn(channels, 1)
            self.down = nn.MaxPool2D(2)
            self.blocks = [self.conv_bn(channels, channels) for _ in range(blocks)]
            for block in self.blocks:
                self.register_child(block)
            self.head = nn.Conv2D(classes, 1, in_channels=2 * channels)

    @staticmethod
    def conv_bn(channels, inputs):
        layers = nn.HybridSequential()
        with layers.name_scope():
            layers.add(nn.Conv2D(channels, 3, padding=1, use_bias=False, in_channels=inputs))
            layers.add(nn.BatchNorm(in_channels=channels), nn.Activation("relu"))
        return layers

    def hybrid_forward(self, F, x):
        full = self.stem(x)
        half = self.down(full)
        for block in self.blocks:
            half = half + block(half)
        back = F.UpSampling(half, scale=2, sample_type="nearest")
        return self.head(F.concat(full, back, dim=1))


def pixel_loss(F, logits, label):
    """Of each sample, the mean over pixels."""
    return F.mean(-F.pick(F.log_softmax(logits, axis=1), label, axis=1), axis=(1, 2))


def segmenter(seed=0):
    mx.random.seed(seed)
    net = Segmenter()
    net.initialize(mx.init.Xavier())
    return net


def batch_of(data_shape, label_shape, seed=0):
    generator = np.random.RandomState(seed)
    label = generator.randint(0, 3, label_shape)
    return generator.randn(*data_shape).astype("float32"), label.astype("float32")


CASES = ("share", "full", "found", "segmentation")


@pytest.fixture(params=CASES)
def case(request, tiny_space, randomised, some_architecture):
    """A function that builds the network, its loss, shapes of a batch, and kinds of steps."""
    name = request.param
    if name == "segmentation":
        return segmenter, pixel_loss, (32, 1, 32, 32), (32, 32, 32), ("all", "weights")
    if name == "found":
        space = tiny_space(image_size=32, blocks=(2, 2, 1))
        architecture = some_architecture(space)
        options = {"auxiliary": True, "dropout": 0.3, "drop_path": 0.8}
        loss, shape, kinds = with_auxiliary(0.4), (16, 1, 32, 32), ("all", "weights")
    else:
        space = tiny_space(scope="full" if name == "full" else "share", blocks=(3, 2))
        architecture, loss = Architecture.complete(space), cross_entropy
        options = {"weighted": True, "fix_gamma": "none" if name == "full" else "all"}
        shape, kinds = (128, 1, 8, 8), ("weights", "lambdas", "all")
    return lambda: randomised(architecture, **options), loss, shape, shape[:1], kinds


def graph_of(case, how):
    build, loss, data, label, _ = case
    net = build()
    return net, TrainGraph(net, loss, data, label, [mx.cpu()], how)


def run(case, net, graph):
    """Everything that two steps of each kind compute and change, in order."""
    seen = []
    mx.random.seed(5)  # of Dropout and drop path
    graph.set_progress(0.9)
    parameters = net.collect_params().items()
    for step, kind in enumerate(2 * case[-1]):
        for _, parameter in parameters:
            if parameter.grad_req != "null":
                parameter.grad()[:] = UNTOUCHED
        (outputs,) = graph.step(kind, *batch_of(case[2], case[3], step))
        graph.wait()
        arrays = {"loss": outputs.loss, "logits": outputs.answers}
        for name, parameter in parameters:
            arrays[name] = parameter.data()
            if parameter.grad_req != "null":
                arrays[f"gradient of {name}"] = parameter.grad()
        seen.append({name: array.asnumpy() for name, array in arrays.items()})
    return seen


def megabytes_of(bound):
    """What an executor reports, or all of a chain's."""
    if not isinstance(bound, Chain):
        return reported(bound)
    last = len(bound._maps)
    kept = [reported(bound._backward[i]) for i in range(bound._keeps, last)]
    room = [reported(e) for i, e in bound._backward.items() if i < bound._keeps]
    (kept if bound._apart else room).append(reported(bound._backward[last]))
    room += [reported(executor) for executor in bound._forward.values()]
    between = {id(a): a.size for a in (*bound._maps, *bound._map_gradients, *bound.outputs)}
    return max(room) + sum(kept) + sum(between.values()) * 4 / 2**20


def test_every_bit_is_that_of_the_plain_graph(case, operators):
    """Outputs, all gradients and BN statistics, with all or some segments computed again."""
    net, graph = graph_of(case, "off")
    plain, expected = graph.plan, run(case, net, graph)
    statistics = [name for name in expected[0] if "running" in name]
    assert any((expected[0][name] != expected[1][name]).any() for name in statistics)
    net, graph = graph_of(case, "deep")
    smallest = graph.plan
    assert plain.recomputed == set()
    assert smallest.maps + smallest.rest < 0.7 * (plain.maps + plain.rest)
    others = graph.footprint.total - smallest.megabytes
    graphs = [(net, graph), graph_of(case, others + (plain.megabytes + smallest.megabytes) / 2)]
    some = graphs[1][1].plan
    assert smallest.megabytes < some.megabytes < plain.megabytes
    assert 0 < some.again < smallest.again
    for net, graph in graphs:
        for step, (wanted, got) in enumerate(zip(expected, run(case, net, graph))):
            assert wanted.keys() == got.keys()
            for array in wanted:
                np.testing.assert_array_equal(got[array], wanted[array], f"{array}, step {step}")
        taken = [megabytes_of(bound[0]) for bound in graph._bound.values()]
        assert max(taken[:2]) == pytest.approx(graph.plan.maps)


def nodes_of(symbol):
    return {node["name"]: node for node in json.loads(symbol.tojson())["nodes"]}


def test_a_marked_graph_survives_json(tmp_path):
    """Exactly the nodes that shall be are marked, and what is read back takes as little memory."""
    data, label = (32, 1, 32, 32), (32, 32, 32)
    graph = TrainGraph(segmenter(), pixel_loss, data, label, [mx.cpu()])
    divided = Forward(graph.symbol(), {"data": data, "label": label}).segments(0)
    recomputed = frozenset(name for segment in divided for name in segment)
    symbol = mark(graph.symbol(), recomputed)
    symbol.save(str(tmp_path / "symbol.json"))
    read = mx.sym.load(str(tmp_path / "symbol.json"))
    marked = {n for n, node in nodes_of(read).items() if ATTRIBUTE in node.get("attrs", {})}
    assert marked == recomputed
    sizes = []
    for one in (graph.symbol(), symbol, read):
        requests = {n: "null" if n in ("data", "label") else "write" for n in one.list_arguments()}
        executor = one.simple_bind(mx.cpu(), grad_req=requests, data=data, label=label)
        sizes.append(reported(executor))
    assert sizes[0] > sizes[1] == sizes[2]


# Where segments end


def chain(blocks, tower_after=None):
    """Residual blocks x + tanh(2x), perhaps with a side branch that joins at the end."""
    x = mx.sym.Variable("data")
    side = None
    for number in range(blocks):
        inner = mx.sym.tanh(x * 2.0, name=f"inner{number}")
        x = mx.sym.elemwise_add(x, inner, name=f"out{number}")
        if number == tower_after:
            side = x
    end = mx.sym.tanh(x, name="end")
    return end if side is None else end + mx.sym.tanh(side, name="tower")


@pytest.mark.parametrize("tower_after", [None, 2])
def test_segments_end_at_the_outputs_of_blocks(tower_after):
    divided = Forward(chain(12, tower_after), {"data": (4, 8)}).segments(0)
    kept = {f"out{number}" for number in range(12)}
    recomputed = {name for segment in divided for name in segment}
    assert not kept & recomputed
    behind_kept = {0} if tower_after is None else {0, tower_after + 1}  # of an input or a branch
    assert {f"inner{number}" for number in set(range(12)) - behind_kept} <= recomputed


def test_a_branch_that_ends_late_ends_a_segment():
    """Its map is kept anyway, so whatever the least size, nothing before it is kept for it."""
    first, last = Forward(chain(12, 2), {"data": (4, 8)}).segments(math.inf)
    assert {"out0", "out1"} < set(first)
    assert "out2" not in first + last
    assert {f"out{number}" for number in range(3, 11)} < set(last)


def test_larger_segments_keep_fewer_maps():
    shapes = {"data": (4, 8)}
    counts = [
        len(Forward(chain(12), shapes).segments(least)) for least in (0, 1000, 5000, math.inf)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[-1] == 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: mx.sym.Dropout(x, p=0.5, name="drawn"),
        lambda x: x * mx.sym.random.normal_like(x, name="drawn"),
        lambda x: mx.sym.shuffle(x, name="drawn"),
    ],
)
def test_random_numbers_are_drawn_once(draw):
    x = draw(mx.sym.tanh(chain(4), name="before"))
    for number in range(10):
        x = mx.sym.tanh(x, name=f"behind{number}")
    symbol = mx.sym.sum(x)
    assert "drawn" in nodes_of(symbol)
    recomputed = {n for s in Forward(symbol, {"data": (4, 8)}).segments(math.inf) for n in s}
    assert {"before", "behind0"} < recomputed
    assert "drawn" not in recomputed


def test_masks_drawn_first_hide_no_boundary():
    x = mx.sym.Variable("data")
    drawn = mx.sym.random.uniform_like(x, name="drawn")
    limits = [mx.sym.Variable(f"p{number}", shape=(1, 1)) for number in range(3)]
    masks = [mx.sym.broadcast_greater(drawn, limit) for limit in limits]
    for number, mask in enumerate(masks):
        # The mask is the first input, so it comes first in the order of execution.
        for column in (0, 1):
            part = mx.sym.slice_axis(mask, axis=1, begin=column, end=column + 1)
            x = mx.sym.broadcast_mul(part, x)
        x = mx.sym.sin(x, name=f"sine{number}")
        x = mx.sym.Activation(x, act_type="tanh", name=f"block{number}")
    divided = Forward(mx.sym.sum(x), {"data": (4, 8)}).segments(0)
    inside = {name for names in divided for name in names}
    assert not any(name.startswith("block") for name in inside)  # each ends a segment


def test_averages_are_moved_once_and_hide_no_boundary(tiny_space):
    """They come last, and take statistics from every block."""
    net = get_model("dsonas", space=tiny_space(blocks=(5, 4)), weighted=True)
    graph = TrainGraph(net, cross_entropy, (4, 1, 8, 8), (4,), [mx.cpu()])
    if not graph.is_native:
        pytest.skip("the operators were not built: python -m dsonas_mx.engine.native")
    nodes = nodes_of(graph.symbol())
    shapes = {"data": (4, 1, 8, 8), "label": (4,)}
    forward = Forward(graph.symbol(), shapes)
    divided = forward.segments(0)
    recomputed = {name for segment in divided for name in segment}
    averages = {name for name, node in nodes.items() if node["op"] == "dsonas_average"}
    levels = {name for name, node in nodes.items() if node["op"] == "dsonas_level"}
    assert averages
    for one in (divided, forward.segments(math.inf)):
        assert not averages & {name for segment in one for name in segment}
    assert len(levels) == 18 and levels <= recomputed
    assert max(len(levels & set(segment)) for segment in divided) == 2  # those of one block


# Plans


class Sizes:
    """Each node computed again saves its size of a hundred."""

    kinds, on_gpu = 1, True

    def __init__(self, sizes):
        self.sizes = sizes

    def whole(self, recomputed, limit):
        return Taken(100.0 - sum(self.sizes.get(name, 0) for name in recomputed))


def plan_for(megabytes, sizes):
    forward = Forward(chain(6), {"data": (4, 8)})
    return Planner(forward, Sizes(sizes), chains=False).plan(megabytes)


def test_megabytes_take_the_fewest_segments_that_fit():
    sizes = {f"inner{number}": 10 for number in range(6)}
    assert plan_for(math.inf, sizes) == plan_for(101.0, sizes) == Plan(100.0)
    assert plan_for(None, sizes).maps == 40
    plan = plan_for(75.0, sizes)
    assert plan.maps == 70 and plan.faster == ((101.0, 0.0),)
    assert {name for name in plan.recomputed if name.startswith("inner")} == {
        "inner0",
        "inner1",
        "inner2",
    }
    with pytest.raises(TooLarge, match="the smallest plan takes 40 MB") as refused:
        plan_for(39.0, sizes)
    assert refused.value.megabytes == pytest.approx(40.4)  # with what is rounded up


def test_what_takes_no_megabyte_has_a_plan():
    assert plan_for(None, {f"inner{number}": 20 for number in range(5)}).maps == 0


def test_less_memory_takes_more_work(plain, tiny_space):
    """By binding a real network: what fits at once, in between, only just, and not at all."""
    space = tiny_space(levels=1, blocks=(4, 4))
    net = get_model("dsonas", space=space, weighted=True)

    def graph(how):
        shape = (512, 1, 8, 8)
        return TrainGraph(net, cross_entropy, shape, shape[:1], [mx.cpu()], how)

    off, least, auto = map(graph, ("off", "least", "auto"))
    largest, smallest = off.footprint.total, least.footprint.total
    assert least.plan.maps + least.plan.rest < 0.6 * (off.plan.maps + off.plan.rest)
    assert auto.plan == off.plan == graph(largest).plan  # this machine has a GB to give
    plans = [off.plan]
    for part in (0.8, 0.4, 1e-6):
        limit = smallest + part * (largest - smallest)
        found = graph(limit)
        plans.append(found.plan)
        assert found.footprint.total <= limit
        assert plans[-2].again < plans[-1].again
    assert plans[-1] == least.plan
    with pytest.raises(ValueError) as refused:
        graph(smallest - 1).plan  # noqa: B018
    assert f"the smallest plan takes {smallest:.0f} MB" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("reports", [(5.0, 9.0), (9.0, 5.0)])
def test_a_plan_is_the_larger_report(reports, tiny_space, monkeypatch):
    """Of the executor of weights and that of λ, whichever that is."""
    left = iter(reports)
    monkeypatch.setattr(trial, "reported", lambda executor: next(left))
    net = get_model("dsonas", space=tiny_space(), weighted=True)
    graph = TrainGraph(net, cross_entropy, (4, 1, 8, 8), (4,), [mx.cpu()], "off")
    assert graph.plan.maps == 9


def test_what_takes_too_much_is_not_bound_twice(operators, tiny_space, monkeypatch):
    """The executor of λ is bound only where that of the weights does not decide."""
    net = get_model("dsonas", space=tiny_space(levels=1, blocks=(4, 4)), weighted=True)
    bound = []

    def recorded(one, part, recomputed):
        bound.append(one)
        return attempt(one, part, recomputed)

    attempt = trial.Trial._bound
    monkeypatch.setattr(trial.Trial, "_bound", recorded)
    shape = (512, 1, 8, 8)
    limit = 20 if native.load() else 35
    TrainGraph(net, cross_entropy, shape, shape[:1], [mx.cpu()], limit).plan  # noqa: B018
    assert bound[0] is bound[1]  # of everything kept


@pytest.mark.parametrize("text", ["", "yes", "0", "-5", "nan", "inf", "1e999"])
def test_refuses_a_mirror(text):
    with pytest.raises(ValueError, match="`recompute` must be auto, least, off, or a number of MB"):
        parse_mirror(text)


def test_reads_a_mirror():
    texts = ("auto", "least", "deep", "off", "850")
    assert [parse_mirror(text) for text in texts] == [*texts[:-1], 850.0]
    allowed = [Allowance.of(text, [mx.cpu()]).megabytes for text in ("off", "least", "deep", 850.0)]
    assert allowed == [math.inf, None, None, 850]


# What a plan promises


def test_a_plan_needs_neither_parameters_nor_data(tiny_space):
    net = get_model("dsonas", space=tiny_space(blocks=(3, 2)), weighted=True)
    graph = TrainGraph(net, cross_entropy, (64, 1, 8, 8), (64,), [mx.cpu()], "least")
    assert 0 < graph.plan.megabytes
    assert graph.plan.again
    assert all(parameter._data is None for parameter in net.collect_params().values())


# --dry-run

SEARCH, TRAIN = "train/search_cifar.py", "train/train_cifar.py"


def figures_of(output):
    """What `--dry-run` printed, by name."""
    pairs = [(line[:15].rstrip(), line[15:].strip()) for line in output.splitlines()]
    stages = {name: text for name, text in pairs if name in ("blocks a stage", "width of each")}
    figures = ((name, text.replace(",", "")) for name, text in pairs if name not in stages)
    return {**stages, **{name: int(figure) for name, figure in figures if figure.isdigit()}}


@pytest.fixture
def dry_run(script, monkeypatch, tmp_path):
    """`dry_run(name, *words)`: the figures; in an empty folder, which stays empty."""
    monkeypatch.chdir(tmp_path)

    def run(name, *words):
        status, out, error = script(name, "--dry-run", *words)
        assert (status, error) == (0, "")
        assert list(tmp_path.iterdir()) == []
        return figures_of(out)

    return run


def test_a_dry_run_of_the_paper(dry_run):
    figures = dry_run(SEARCH, "--mirror", "off", "--batch-size", 64)
    expected = {
        "blocks a stage": "8,8,8",
        "width of each": "48,96,192",
        "parameters": 10_031_130,
        "connections": 124,
        "multiply-adds": 1_484_539_776,
        "steps an epoch": 390 * 2,  # half of 50,000 images for the weights, half for λ
    }
    assert {name: figures[name] for name in expected} == expected
    names = "gradients", "states", "exchange", "maps", "batch", "rest", "graphs", "workspace"
    parts = [f"  {name}" for name in names]
    assert [figures[part] for part in parts[:3]] == [38, 38, 0]
    assert figures["  maps"] > 2000
    assert abs(figures["MB a device"] - sum(figures[part] for part in parts) - 40) < 4


@pytest.mark.slow
def test_a_dry_run_of_the_paper_without_options(dry_run):
    figures = dry_run(SEARCH, "--mirror", 4000)
    assert (figures["parameters"], figures["connections"]) == (10_031_130, 124)
    assert 500 < figures["MB a device"] <= 4000  # with nothing recomputed more


def test_a_dry_run_of_the_demo(dry_run, script):
    small = ["--demo", "--levels", 2]
    figures = [dry_run(SEARCH, *small, "--mirror", how) for how in ("off", "least", "deep")]
    plain, least, deep = (one["MB a device"] for one in figures)
    assert 0 < least == deep < plain
    for megabytes in (1, 0.1):  # less than the parameters take
        status, _, error = script(SEARCH, *small, "--dry-run", "--mirror", megabytes)
        assert status == 2
        expected = f"--mirror {megabytes}: the smallest plan takes {least} MB on each device"
        assert error.count("\n") == 1 and expected in error


def test_a_dry_run_of_training(dry_run, script, tmp_path_factory):
    space = SearchSpace(levels=1, operations=("sep3", "avg"), blocks=(1, 1, 1), width=8)
    path = tmp_path_factory.mktemp("found") / "architecture.json"
    architecture = Architecture.complete(space)
    architecture.save(path)
    words = ["--architecture", path, "--width", 8, "--auxiliary", 0, "--batch-size", 100]
    figures = dry_run(TRAIN, *words)
    cost = count(architecture)
    assert figures["parameters"] == cost.parameters
    assert figures["multiply-adds"] == cost.multiply_adds
    assert figures["connections"] == 2
    assert figures["steps an epoch"] == 500
    assert figures["MB a device"] > 0
