"""Arrays that a graph takes in place of parameters: several as one, which a GPU takes at once."""

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import Parameter

from .flat import Flat, flattened, is_lambda

SPARE = "spare"  # where elements go that nobody uses


class Piece(NamedTuple):
    """Elements of a parameter, by number, and where they go in an assembled array."""

    source: str
    taken: np.ndarray
    places: np.ndarray


class Derived:
    """The inputs of a graph that stand for parameters, which stay what they are.

    A network asks for them while it is traced; a `TrainGraph` makes them when it is bound. A stack
    is the memory of its parameters itself. What is assembled is copied there before each step, and
    its gradient back behind it, by one call for all.

    Parameters
    ----------
    parameters : mapping of str to gluon.Parameter
        Of the network; their shapes are known.

    Attributes
    ----------
    inputs : dict of str to gluon.Parameter
        What was asked for, by name; initialised by `make`.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.inputs: Dict[str, Parameter] = {}
        self._parameters = parameters
        self._stacks: Dict[str, Tuple[str, ...]] = {}
        self._pieces: Dict[str, List[Piece]] = {}
        self._symbols: Dict[str, mx.sym.Symbol] = {}
        self._copies: List[_Copy] = []

    # For networks

    def ones(self, members: Sequence[mx.sym.Symbol]) -> mx.sym.Symbol:
        """A constant in place of scales of BN that are fixed, one behind the other.

        Of a scale that it is told to fix, MXNet's BN writes a one, and a gradient of zero, by calls
        of their own.
        """
        size = sum(self._parameters[member.name].shape[0] for member in members)
        return self._input(f"ones{size}", (size,), grad_req="null", init=mx.init.One())

    def stack(self, name: str, members: Sequence[mx.sym.Symbol]) -> mx.sym.Symbol:
        """Parameters one behind the other along their first axis."""
        self._stacks[name] = tuple(member.name for member in members)
        given = [self._parameters[member] for member in self._stacks[name]]
        shape = (sum(one.shape[0] for one in given), *given[0].shape[1:])
        return self._input(name, shape, grad_req=given[0].grad_req)

    def assemble(
        self, name: str, shape: Tuple[int, ...], pieces: Sequence[Tuple[Any, Any, Any]]
    ) -> mx.sym.Symbol:
        """Elements of parameters in another order, with zeros where none goes.

        Parameters
        ----------
        name : str
            It ends in lambdas if, and only if, the sources are scales λ.
        shape : tuple of int
        pieces : sequence of (parameter, numbers of elements, where they go)
            Every element goes to one place of one array at most.
        """
        self._pieces[name] = [Piece(source.name, taken, to) for source, taken, to in pieces]
        return self._input(name, shape, grad_req="write")

    def _input(self, name: str, shape: Tuple[int, ...], grad_req: str, **how: Any) -> mx.sym.Symbol:
        if name not in self._symbols:
            how.setdefault("init", mx.init.Zero())
            self.inputs[name] = Parameter(name, grad_req=grad_req, shape=shape, **how)
            self._symbols[name] = mx.sym.Variable(name, shape=shape)
        return self._symbols[name]

    # For the graph

    @property
    def assembled(self) -> List[Parameter]:
        """What takes memory beside that of the parameters."""
        return [self.inputs[name] for name in self._pieces]

    def make(self) -> List[Parameter]:
        """Put them where they are, and return what is to be updated in place of the parameters."""
        contexts = next(iter(self._parameters.values())).list_ctx()
        whole = dict(self._parameters)
        for name, members in self._stacks.items():
            stack = Flat(name, [whole.pop(member) for member in members], is_stack=True)
            self.inputs[name] = whole[name] = stack
        sources = {piece.source for pieces in self._pieces.values() for piece in pieces}
        first = sorted(whole.values(), key=lambda parameter: parameter.name not in sources)
        flats = flattened([parameter for parameter in first if parameter.grad_req != "null"])
        for name, parameter in self.inputs.items():
            if name not in self._stacks:
                parameter.initialize(ctx=contexts)
        for flat in flats:
            pieces = {
                name: parts
                for name, parts in self._pieces.items()
                if any(piece.source in flat.parts for piece in parts)
            }
            if pieces:
                self._copies.append(_Copy(flat, [self.inputs[n] for n in pieces], pieces))
        return list(flats)

    def fill(self) -> None:
        """Before a step: copy what is assembled."""
        for copy in self._copies:
            copy.fill()

    def give_back(self, gradients: str) -> None:
        """After a step: copy the gradients that it computed to those of the parameters."""
        for copy in self._copies:
            if gradients == "all" or copy.is_of_lambdas == (gradients == "lambdas"):
                copy.give_back()


class _Copy:
    """All that is assembled of the parameters of one array."""

    def __init__(
        self, source: Flat, targets: Sequence[Parameter], pieces: Mapping[str, Sequence[Piece]]
    ) -> None:
        spare = Parameter(f"{SPARE}_lambdas", shape=(1,), init=mx.init.Zero())
        spare.initialize(ctx=source.list_ctx())
        target = Flat(f"assembled_of_{source.name}", [*targets, spare])
        used = [source.parts[piece.source] for parts in pieces.values() for piece in parts]
        size = max(part.start + math.prod(part.shape) for part in used)
        places = np.full(size, target.parts[spare.name].start, np.int32)
        for name, parts in pieces.items():
            for piece in parts:
                start = source.parts[piece.source].start
                taken = np.asarray(piece.taken, np.int64)  # an empty list has none
                to = np.asarray(piece.places, np.int64)
                places[start + taken] = target.parts[name].start + to
        self.is_of_lambdas = is_lambda(source)
        self._size = size
        self._pairs = [(source, target, context) for context in source.list_ctx()]
        self._places = [mx.nd.array(places[None], c, "int32") for c in source.list_ctx()]

    def fill(self) -> None:
        for (source, target, context), places in zip(self._pairs, self._places):
            to = target.data(context).reshape(-1)
            taken = source.data(context).reshape(-1)[: self._size]
            mx.nd._internal._scatter_set_nd(to, taken, places, shape=to.shape, out=to)

    def give_back(self) -> None:
        for (source, target, context), places in zip(self._pairs, self._places):
            gradient = source.grad(context).reshape(-1)[: self._size]
            mx.nd.take(target.grad(context).reshape(-1), places.reshape(-1), out=gradient)
