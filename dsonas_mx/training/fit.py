"""Fit: train a network from scratch and test it."""

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..data.loader import Loader
from ..engine.graph import Outputs
from ..engine.setup import Setup
from ..engine.workers import Workers
from .loop import Diverged, Loop
from .loss import cross_entropy
from .metric import Score, Tally
from .options import FitOptions

_MOST_SHAPES = 8  # of batches for which a network is kept bound


@dataclass(frozen=True)
class FitEpoch:
    """What an epoch did: the number of the epoch, from 1, and scores on both halves."""

    epoch: int
    learning_rate: float
    train: Score
    test: Score

    @property
    def error(self) -> float:
        """What the best epoch has the least of: the test error, a fraction."""
        return 1 - self.test.accuracy

    def row(self) -> Dict[str, Any]:
        """The row of ``metrics.csv``; errors are fractions."""
        row = {
            "epoch": self.epoch,
            "learning_rate": self.learning_rate,
            "train_loss": self.train.loss,
            "train_error": 1 - self.train.accuracy,
            "test_loss": self.test.loss,
            "test_error": self.error,
        }
        return row if self.test.top5 is None else {**row, "test_top5_error": 1 - self.test.top5}

    def __str__(self) -> str:
        return (
            f"epoch {self.epoch}: train loss {self.train.loss:.4f}, error "
            f"{1 - self.train.accuracy:.2%}; test error {self.error:.2%}"
            + ("" if self.test.top5 is None else f", top-5 {1 - self.test.top5:.2%}")
        )


class Fit(Loop):
    """Training of one network. `run` does it; `step_epoch` does an epoch of it, or the rest.

    Parameters
    ----------
    net : HybridBlock
    train_data, test_data : Loader
        Whole batches to train on; all samples, to test on.
    options : FitOptions
    loss : callable
        See `dsonas_mx.training.loss`; of all outputs of the network.
    setup : Setup
        `net` is initialised on its devices.
    """

    def __init__(
        self,
        net: HybridBlock,
        *,
        train_data: Loader,
        test_data: Loader,
        options: FitOptions,
        loss: Callable[..., Any] = cross_entropy,
        setup: Optional[Setup] = None,
    ) -> None:
        super().__init__(train_data, loss, setup or Setup())
        self.net = net
        self.options, self.num_epochs = options, options.num_epochs
        self.train_data, self.test_data = train_data, test_data
        optimizer = mx.optimizer.create(
            "nag",
            learning_rate=options.learning_rate,
            momentum=options.momentum,
            wd=options.weight_decay,
        )
        self._bind({"all": optimizer})

    def steps_of(self, epoch: int) -> int:
        """The same in all epochs."""
        return len(self.train_data)

    def outcome(self) -> Score:
        """The score on the test data."""
        return self.test()

    def step_epoch(self) -> FitEpoch:
        """Train for an epoch, then test."""
        options = self.options
        rate = self._set_rate(options.rate(self.epoch))
        self.graph.set_progress(self.epoch / options.num_epochs)
        data = self.train_data
        train = self._run_steps(("all",) * len(data), {"all": data}, "train")["all"]
        test = self.test()
        if not math.isfinite(test.loss):
            raise Diverged(
                f"the test loss is {test.loss} in epoch {self.epoch + 1}: {self._advice()}"
            )
        self._next_epoch()
        return FitEpoch(self.epoch, rate, train, test)

    def test(self) -> Score:
        """Loss and accuracy on the test data, with the moving statistics of BN."""
        return evaluate(
            self.net,
            self.test_data,
            self._contexts,
            self.after_step,
            self.options.top5,
            self.workers,
        )


def evaluate(
    net: HybridBlock,
    data: Loader,
    contexts: Sequence[mx.Context],
    after_batch: Callable[[], None] = lambda: None,
    top5: bool = False,
    workers: Optional[Workers] = None,
) -> Score:
    """Cross-entropy and accuracy of a classifier on all samples of `data`; top-5 too if wanted, of
    more than five classes.

    The samples of each batch are divided over `workers`.

    It runs on copies of the parameters, see `Inference`.
    """
    logits = net(mx.sym.Variable("data"))
    if isinstance(logits, (list, tuple)):
        logits = logits[0]
    copies = [Inference(logits, net, context) for context in contexts]
    workers = workers or Workers()
    tally = Tally(workers, len(contexts))
    among_five: List[mx.nd.NDArray] = []
    for batch in data.epoch(0):
        own, sizes = workers.sizes(len(batch.labels), len(contexts))
        start = own.start
        outputs = []
        for context, size, run in zip(contexts, sizes, copies):
            if not size:
                break
            part = slice(start, start + size)
            start += size
            output = run(batch.data[part])
            label = mx.nd.array(batch.labels[part], ctx=context)
            outputs.append(Outputs(cross_entropy(mx.nd, output, label), output, label))
            if top5 and output.shape[1] > 5:  # of five classes all are among the five likeliest
                best = mx.nd.topk(output, k=5)
                among_five.append((best == label.expand_dims(1)).sum())
        tally.add(outputs, len(batch.labels))
        after_batch()
    score = tally.score()
    if not among_five:
        return score
    found = np.array([float(sum(count.asscalar() for count in among_five))], np.float32)
    return score._replace(top5=float(workers.gather(found).sum()) / tally.samples)


class Inference:
    """A symbol of the input `data` over a network's parameters on a device, to run forward.

    It has copies of them: in inference MKLDNN reorders the very arrays it is given, whenever it
    gets to it, and a training that went on with them would not repeat bit for bit.
    """

    def __init__(self, symbol: mx.sym.Symbol, net: HybridBlock, context: mx.Context) -> None:
        self._symbol, self._context = symbol, context
        self.arrays = {name: p.data(context).copy() for name, p in net.collect_params().items()}
        self._bound: Dict[Tuple[int, ...], mx.executor.Executor] = {}  # by shape

    def __call__(self, data: np.ndarray) -> mx.nd.NDArray:
        """What it gives for a batch, until it is asked again."""
        if data.shape not in self._bound:
            if len(self._bound) >= _MOST_SHAPES:
                del self._bound[next(iter(self._bound))]
            arrays = {**self.arrays, "data": mx.nd.zeros(data.shape, ctx=self._context)}
            self._bound[data.shape] = self._symbol.bind(
                self._context,
                {name: arrays[name] for name in self._symbol.list_arguments()},
                grad_req="null",
                aux_states={name: arrays[name] for name in self._symbol.list_auxiliary_states()},
            )
        executor = self._bound[data.shape]
        executor.forward(is_train=False, data=mx.nd.array(data, ctx=self._context))
        return executor.outputs[0]
