"""APG-NAG: accelerated proximal gradient in the form of Nesterov's momentum (Eq. 13-16)."""

from types import MappingProxyType
from typing import Any, Collection, Dict, Mapping, Tuple, Union

import mxnet as mx
import numpy as np

from ..engine import flat  # whole: it may be flat that imports MXNet, and with it this

Gamma = Union[float, np.ndarray, mx.nd.NDArray]

SCHEDULES = ("constant", "apg")


def _checked(gamma: Gamma) -> Union[float, np.ndarray]:
    values = gamma.asnumpy() if isinstance(gamma, mx.nd.NDArray) else np.array(gamma, np.float32)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError(f"gamma must be finite and not negative, got {gamma}")
    if not values.ndim:
        return float(gamma if not isinstance(gamma, mx.nd.NDArray) else values)
    values.flags.writeable = False
    return values


def gamma_state(gamma: Union[Gamma, Mapping[str, Gamma]]) -> Tuple[Any, Dict[str, np.ndarray]]:
    """γ as a checkpoint holds it: what goes into JSON, and arrays by name.

    A number is itself, an array the name that it has among the arrays, a mapping one of these.
    """
    arrays: Dict[str, np.ndarray] = {}

    def part(value: Gamma, name: str) -> Union[float, str]:
        if isinstance(value, (int, float)):
            return value
        arrays[name] = value.asnumpy() if isinstance(value, mx.nd.NDArray) else value
        return name

    if isinstance(gamma, Mapping):
        return {name: part(value, f"gamma/{name}") for name, value in gamma.items()}, arrays
    return part(gamma, "gamma"), arrays


def gamma_from_state(state: Any, arrays: Dict[str, np.ndarray]) -> Any:
    """γ of a checkpoint; what it has of `arrays` is removed from them."""
    if isinstance(state, dict):
        return {name: gamma_from_state(part, arrays) for name, part in state.items()}
    return arrays.pop(state) if isinstance(state, str) else float(state)


def soft_threshold(z: mx.nd.NDArray, alpha: Gamma) -> mx.nd.NDArray:
    """S_α(z) = sign(z) (|z| − α)₊, the proximal operator of α‖z‖₁ (section 3.3)."""
    return mx.nd.sign(z) * mx.nd.relu(mx.nd.abs(z) - alpha)


@mx.optimizer.Optimizer.register
class APGNAG(mx.optimizer.Optimizer):
    """The optimizer of λ: a gradient step, a soft threshold, then Nesterov's momentum.

    With G the loss, η the learning rate, γ the sparsity weight and μ the momentum (Eq. 14-16):

        z_t  = λ'_{t−1} − η ∇G(λ'_{t−1})
        v_t  = S_{ηγ}(z_t) − λ'_{t−1} + μ_{t−1} v_{t−1}
        λ'_t = S_{ηγ}(z_t) + μ_t v_t,  then λ'_t = max(λ'_t, 0)

    The parameter holds λ', the state v. Nothing in a step waits for the device.

    Parameters
    ----------
    gamma : float, array or mapping of parameter names to these
        γ, a number or an array of λ's shape. Assign `gamma` to change it between steps. A
        parameter that a mapping does not name is not penalised.
    momentum : float
        μ of the constant schedule.
    momentum_schedule : {'constant', 'apg'}
        ``'apg'`` is Eq. 13: μ_t = (t−1)/(t+2), t the number of the step from 1.
    never_empty : collection of str
        Names of parameters that a step must not take to zero as a whole: the largest entry then
        stays as it was. A network without any branch of a reduction would be dead.
    **kwargs
        Of `mx.optimizer.Optimizer`: `learning_rate`, `clip_gradient` (each entry of the
        rescaled gradient), `rescale_grad`, … Weight decay is refused: λ has none.

    Examples
    --------
    >>> trainer = gluon.Trainer(lambdas, mx.optimizer.create('apgnag', gamma=0.001,
    ...                                                      learning_rate=0.1, momentum=0.9))
    """

    def __init__(
        self,
        gamma: Union[Gamma, Mapping[str, Gamma]] = 0.0,
        momentum: float = 0.9,
        momentum_schedule: str = "constant",
        never_empty: Collection[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if momentum_schedule not in SCHEDULES:
            raise ValueError(
                f"momentum_schedule must be one of {', '.join(SCHEDULES)}, "
                f"got {momentum_schedule!r}"
            )
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        for name in ("lr", "clip_gradient"):
            if not 0 <= (getattr(self, name) or 0) < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.wd:
            raise ValueError(f"apgnag has no weight decay, got wd {self.wd}: use gamma")
        self.momentum = momentum
        self.momentum_schedule = momentum_schedule
        self.never_empty = frozenset(never_empty)
        self.gamma = gamma

    @property
    def gamma(self) -> Union[Gamma, Mapping[str, Gamma]]:
        """γ as it was given, read-only: assign a new one to change it."""
        return MappingProxyType(self._gamma) if isinstance(self._gamma, dict) else self._gamma

    @gamma.setter
    def gamma(self, gamma: Union[Gamma, Mapping[str, Gamma]]) -> None:
        # Read-only copies: a change in place would go unchecked, and past what was uploaded.
        self._gamma: Any
        if isinstance(gamma, Mapping):
            self._gamma = {name: _checked(g) for name, g in gamma.items()}
        else:
            self._gamma = _checked(gamma)
        self._uploaded: Dict[Any, mx.nd.NDArray] = {}  # by what makes it, and device

    def __getstate__(self) -> Dict[str, Any]:
        """What `Trainer.save_states` pickles: not what lies on devices."""
        return {**super().__getstate__(), "_uploaded": {}}

    def create_state(self, index: int, weight: mx.nd.NDArray) -> mx.nd.NDArray:
        """v_0 = 0, of λ's shape."""
        return mx.nd.zeros(weight.shape, weight.context, dtype=weight.dtype)

    def update(
        self, index: int, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: mx.nd.NDArray
    ) -> None:
        """One step of Eq. 14-16 on λ' (`weight`) and v (`state`), both in place."""
        self._update_count(index)
        eta = self._get_lr(index)
        before, now = self._momenta(self._index_update_count[index])
        gradient = grad * self.rescale_grad
        if self.clip_gradient:
            gradient = mx.nd.clip(gradient, -self.clip_gradient, self.clip_gradient)

        z = weight - eta * gradient
        shrunk = soft_threshold(z, self._threshold(index, weight, eta))
        state[:] = shrunk - weight + before * state
        updated = mx.nd.relu(shrunk + now * state)
        if not self.never_empty.isdisjoint(self._names(index)):
            updated = self._with_the_largest(index, weight, updated)
        weight[:] = updated

    def _with_the_largest(
        self, index: int, weight: mx.nd.NDArray, updated: mx.nd.NDArray
    ) -> mx.nd.NDArray:
        """An update of λ, a vector or one a row, that leaves none of `never_empty` without any."""
        largest = weight * mx.nd.broadcast_equal(weight, weight.max(axis=-1, keepdims=True))
        lost = updated.max(axis=-1, keepdims=True) == 0
        names = self._names(index)
        if not self.never_empty.issuperset(names):
            key = "held", index, weight.context
            if key not in self._uploaded:
                held = np.array([[name in self.never_empty] for name in names], np.float32)
                self._uploaded[key] = mx.nd.array(held, ctx=weight.context)
            lost = lost * self._uploaded[key]
        return updated + mx.nd.broadcast_mul(largest, lost)

    def _momenta(self, t: int) -> Tuple[float, float]:
        """μ_{t−1} and μ_t of step t."""
        if self.momentum_schedule == "constant":
            return self.momentum, self.momentum
        return (t - 2) / (t + 1), (t - 1) / (t + 2)

    def _threshold(
        self, index: int, weight: mx.nd.NDArray, eta: float
    ) -> Union[float, mx.nd.NDArray]:
        """ηγ of a parameter."""
        parameter = self.param_dict.get(index)
        if isinstance(parameter, flat.Flat):
            key = eta, index, weight.context
            if key not in self._uploaded:
                values = np.zeros(weight.shape, np.float32)
                for row, (name, part) in zip(values, parameter.parts.items()):
                    gamma = self._gamma_of(name, part.shape)
                    is_array = isinstance(gamma, np.ndarray)
                    row[: part.shape[0]] = np.float32(eta) * gamma if is_array else eta * gamma
                self._uploaded[key] = mx.nd.array(values, ctx=weight.context)
            return self._uploaded[key]
        gamma = self._gamma_of(self._names(index)[0], weight.shape)
        if isinstance(gamma, np.ndarray):
            place = index, weight.context
            if place not in self._uploaded:
                self._uploaded[place] = mx.nd.array(gamma, ctx=weight.context, dtype=weight.dtype)
            gamma = self._uploaded[place]
        return eta * gamma

    def _gamma_of(self, name: str, shape: Tuple[int, ...]) -> Union[float, np.ndarray]:
        gamma = self._gamma.get(name, 0.0) if isinstance(self._gamma, Mapping) else self._gamma
        if isinstance(gamma, np.ndarray) and gamma.shape != shape:
            raise ValueError(f"gamma must have the shape of λ, {shape}, got {gamma.shape}")
        return gamma

    def _names(self, index: int) -> Tuple[str, ...]:
        """Those of the parameters that an index stands for."""
        parameter = self.param_dict.get(index)
        if isinstance(parameter, flat.Flat):
            return tuple(parameter.parts)
        return (parameter.name if parameter else self.idx2name.get(index, index),)
