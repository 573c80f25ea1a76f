"""What a step takes on a GPU: bytes beside those foretold, seconds beside the original's graph."""

import gc
import math
from typing import Any, Callable, Dict

from dsonas_mx import SearchSpace
from dsonas_mx.engine.graph import TrainGraph
from dsonas_mx.engine.timing import alternate, medians
from dsonas_mx.training.loss import cross_entropy

import mxnet as mx
from bench.step import batch, both_steps, original_steps

from symbols import get_model, original

PLANS = ("off", "auto", "least")
WIDTH, BLOCKS, BATCH = 48, 1, 32
ROUNDS = 5
BEYOND = 1.05  # how much of what was foretold may be allocated
SLACK = 100.0  # MB: workspaces of cuDNN, which nothing foretells

Result = Dict[str, Any]


def memory(device: mx.Context) -> Result:
    """MB that the device has less after a search step, for each way to recompute."""
    result: Result = {"passes": True}
    _supernet(device, _space(width=4), 4, "off")[1]()  # what CUDA and cuDNN take for themselves
    for plan in PLANS:
        mx.nd.waitall()
        gc.collect()
        device.empty_cache()
        before = free_mb(device)
        graph, steps, held = _supernet(device, _space(), BATCH, plan)
        steps()
        mx.nd.waitall()
        taken = before - free_mb(device)
        foretold = graph.plan.megabytes + held
        result["passes"] &= 0 < taken <= foretold * BEYOND + SLACK
        result[plan] = {"foretold MB": foretold, "taken MB": taken}
        del graph, steps
    return result


def times(device: mx.Context) -> Result:
    """Seconds of a weight and a λ step without updates: ours, and the original's graph."""
    space = _space()
    pieces: Dict[str, Callable[[], None]] = {
        plan: _supernet(device, space, BATCH, plan)[1] for plan in PLANS
    }
    data, label = batch(space, BATCH)
    executor = original.network(space, "all").simple_bind(device, "write", data=data.shape)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        array[:] = 0 if name.endswith(("beta", "mean", "bias")) else 1
        if name.endswith("weight"):
            mx.nd.random.normal(0, math.prod(array.shape[1:]) ** -0.5, out=array)
    executor.arg_dict["data"][:] = data
    executor.arg_dict["softmax_label"][:] = label
    seconds = medians(alternate({**pieces, "the original's": original_steps(executor)}, ROUNDS, 2))
    ratio = seconds["off"] / seconds["the original's"]
    return {"passes": math.isfinite(ratio), "seconds": seconds, "off over the original's": ratio}


def free_mb(device: mx.Context) -> float:
    """What is free on a GPU."""
    return mx.context.gpu_memory_info(device.device_id)[0] / 2**20


def _space(width: int = WIDTH) -> SearchSpace:
    return SearchSpace.cifar10(width=width, blocks=(BLOCKS,) * 3)


def _supernet(device: mx.Context, space: SearchSpace, size: int, plan: str) -> Any:
    """A graph, what does its two steps, and the MB of its parameters, gradients and batch."""
    net = get_model("dsonas", space=space, weighted=True)
    net.initialize(ctx=device)
    data, label = batch(space, size)
    graph = TrainGraph(net, cross_entropy, data.shape, label.shape, [device], plan)
    arrays = [(p.shape, 1 if p.grad_req == "null" else 2) for p in net.collect_params().values()]
    held = sum(4 * count * math.prod(shape) for shape, count in [*arrays, (data.shape, 1)])
    return graph, both_steps(graph, data, label), held / 2**20
