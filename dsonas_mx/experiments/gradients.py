"""The gradient of λ: how noisy it is from batch to batch, and whether two seeds have the same.

What batches disagree in, more steps average away. What the expected gradients of two seeds, whose
weights are different, disagree in, no averaging does.
"""

import itertools
import math
from typing import Dict, List, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..data.loader import Loader
from ..engine.graph import TrainGraph
from ..space.scales import Scales, lambda_parameters
from ..training.loss import cross_entropy
from .agreement import spearman


def lambda_gradients(
    net: HybridBlock,
    data: Loader,
    batches: int,
    contexts: Optional[Sequence[mx.Context]] = None,
) -> np.ndarray:
    """∇λ of so many batches at the weights as they are, averaged over the samples of each.

    Parameters
    ----------
    net : HybridBlock
        A weighted network with its `architecture`, initialised on `contexts`.
    data : Loader
        As D_λ of a search.

    Returns
    -------
    array, batches × connections (of all structures)
    """
    contexts = list(contexts or [mx.cpu()])
    graph = TrainGraph(net, cross_entropy, data.data_shape, data.label_shape, contexts)
    parameters = net.collect_params()
    names = lambda_parameters(net.architecture)
    drawn = itertools.chain.from_iterable(data.epoch(number) for number in itertools.count())
    rows: List[np.ndarray] = []
    for batch in itertools.islice(drawn, batches):
        graph.step("lambdas", batch.data, batch.labels)
        graph.wait()
        sums = {
            name: sum(grad.asnumpy() for grad in parameters[name].list_grad()) for name in names
        }
        scales = Scales.of_parameters(net.architecture, sums)
        rows.append(scales.connections.ravel() / data.batch_size)
    return np.stack(rows)


def noise(gradients: np.ndarray) -> Dict[str, float]:
    """Of batches × connections: how far the mean over batches is a signal.

    Returns
    -------
    dict
        ``deviation`` over batches; ``signal``, the deviation over connections of the expected
        gradient (0 where it drowns); ``batches``, whose mean is half signal and half noise by
        variance; ``reliability``, the share of signal in the mean over all batches here.
    """
    count = len(gradients)
    variance = float(gradients.var(axis=0, ddof=1).mean())
    signal = max(float(gradients.mean(axis=0).var()) - variance / count, 0.0)
    return {
        "deviation": math.sqrt(variance),
        "signal": math.sqrt(signal),
        "batches": variance / signal if signal else math.inf,
        "reliability": signal / (signal + variance / count),
    }


def between(seeds: Sequence[np.ndarray]) -> Dict[str, float]:
    """The rank correlation of the mean gradients of two seeds, on average over pairs.

    Returns
    -------
    dict
        ``spearman``; ``corrected`` for the noise that is left in the means, which makes any
        correlation smaller: that of the expected gradients.
    """
    means = [gradients.mean(axis=0) for gradients in seeds]
    trust = [noise(gradients)["reliability"] for gradients in seeds]
    pairs = list(itertools.combinations(range(len(seeds)), 2))
    ranks = [spearman(means[i], means[j]) for i, j in pairs]
    share = float(np.mean([math.sqrt(trust[i] * trust[j]) for i, j in pairs]))
    found = float(np.mean(ranks))
    return {"spearman": found, "corrected": found / share if share else math.nan}
