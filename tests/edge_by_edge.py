"""An oracle: files of reference arrays from the network that has an operator a connection."""

import json
import re

import mxnet as mx
import numpy as np

from symbols.original import network


def reference(space, seed, fix_gamma="operations", layout="vector", batch=4):
    """A pass of it with random parameters, as the arrays of a file of reference vectors.

    Parameters are drawn until no value lies within rounding of the kink of a ReLU, at which
    another way to round would give another gradient.
    """
    output = network(space, fix_gamma, layout)
    internals = output.get_internals()
    into_relu = [n for n in internals.list_outputs() if re.search(r"bn\d?_output$", n)]
    symbol = mx.sym.Group([output, *(mx.sym.BlockGrad(internals[name]) for name in into_relu)])
    shape = (batch, space.in_channels, space.image_size, space.image_size)
    executor = symbol.simple_bind(mx.cpu(), "write", data=shape)
    generator = np.random.RandomState(seed)
    nearest = 0
    while nearest < 1e-5:
        _draw(executor, generator, space)
        arrays = {f"aux:{k}": v.asnumpy() for k, v in executor.aux_dict.items()}
        executor.forward(is_train=True)
        nearest = min(np.abs(array.asnumpy()).min() for array in executor.outputs[1:])
    arrays["out:train"] = executor.outputs[0].asnumpy()
    executor.backward()
    mx.nd.waitall()  # or statistics may be read before they are moved
    arrays.update((f"arg:{k}", v.asnumpy()) for k, v in executor.arg_dict.items())
    arrays.update((f"aux_after:{k}", v.asnumpy()) for k, v in executor.aux_dict.items())
    for name, array in executor.grad_dict.items():
        if name not in ("data", "softmax_label"):
            arrays[f"grad:{name}"] = array.asnumpy()
    executor.forward(is_train=False)
    arrays["out:eval"] = executor.outputs[0].asnumpy()
    meta = {
        "dataset": "imagenet" if space.stem == "imagenet" else "cifar10",
        "scope": space.scope,
        "levels": space.levels,
        "operations": len(space.operations),
        "width": space.width,
        "blocks": list(space.blocks),
        "num_classes": space.num_classes,
        "fix_gamma": fix_gamma,
    }
    return {"meta": np.array(json.dumps(meta)), **arrays}


def _draw(executor, generator, space):
    for name, array in (*executor.arg_dict.items(), *executor.aux_dict.items()):
        values = generator.randn(*array.shape)
        if name.startswith("lambda_"):
            values = generator.rand(*array.shape) + 0.1
        elif name.endswith("weight"):
            values *= np.sqrt(2 / max(1, np.prod(array.shape[1:])))
        elif name.endswith("gamma"):
            values = 1 + values / 10
        elif name.endswith("label"):
            values = generator.randint(0, space.num_classes, array.shape)
        elif name.endswith("moving_var"):
            values = np.ones(array.shape)
        elif name != "data":
            values /= 10
        array[:] = values
