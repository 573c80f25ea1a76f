"""A search to try."""

from dsonas_mx import Architecture
from dsonas_mx.engine.setup import Setup, in_silence
from dsonas_mx.search.search import Search

import mxnet as mx
import pytest
from small_search import OPTIONS

from symbols import get_model


@pytest.fixture
def search(tiny_space, loader, plain):
    """`search(options, …)`: a search with so many batches of weights and of λ."""

    def build(
        options=OPTIONS,
        batches=(3, 3),
        contexts=None,
        seed=0,
        scope="share",
        batch_size=8,
        budget=None,
        target=None,
        progress=in_silence,
        **network,
    ):
        space = tiny_space(scope=scope)
        mx.random.seed(seed)
        weights, lambdas = (
            loader(batch_size * number, batch_size, seed, stream=stream)
            for stream, number in enumerate(batches)
        )
        return Search(
            lambda architecture: get_model("dsonas", architecture, weighted=True, **network),
            Architecture.complete(space, {"seed": seed}),
            weight_data=weights,
            lambda_data=lambdas if options.split else None,
            options=options,
            setup=Setup(contexts or [mx.cpu()], progress=progress),
            budget=budget,
            target=target,
        )

    return build
