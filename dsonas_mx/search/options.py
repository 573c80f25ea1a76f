"""SearchOptions: what a search does; BudgetOptions: what adapts γ."""

from dataclasses import dataclass
from typing import Any, Optional, Tuple

from ..io.options import Options, at_least, fraction, not_negative, number, option, place, positive
from .budget import BUDGETS

Split = Optional[Tuple[int, int]]


def parse_split(text: str) -> Split:
    """'4:1' → (4, 1); 'none' → None."""
    if text == "none":
        return None
    try:
        weights, lambdas = (int(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"`split` must be as 4:1, or none, got {text!r}") from None
    return weights, lambdas


def show_split(split: Split) -> str:
    """What `parse_split` reads."""
    return "none" if split is None else f"{split[0]}:{split[1]}"


def check_split(name: str, split: Any) -> None:
    """Refuse what is no ratio of two parts."""
    if len(split) != 2 or min(split) < 1:
        raise ValueError(f"{name} must be two numbers of at least 1, as 4:1, got {split}")


@dataclass(frozen=True)
class SearchOptions(Options):
    """What a search does; the defaults are the paper's for CIFAR-10.

    Parameters
    ----------
    pretrain_epochs, num_epochs : int
        Epochs with λ fixed at one, and at most so many epochs of search after them.
    split : (int, int), optional
        x weight steps, then y λ steps, on parts of the data in the same ratio. None updates both
        from one backward pass over all data (the ablation of table 7).
    shrink_every : int
        Search epochs after which zeros become permanent.
    patience : int
        The search has converged after so many epochs in which the architecture did not change.
    learning_rate : float
        Of the weights (NAG) and of λ.
    momentum : float
        Of the weights and of λ.
    weight_decay : float
        Of the weights; λ has none.
    gamma : float
        γ, the weight of L1 on λ.
    momentum_schedule : str
        Of λ: see `APGNAG`.
    clip_gradient : float
        Bound of each entry of a gradient, averaged over the batch; 0 for none.
    """

    pretrain_epochs: int = option(120, "with λ fixed at 1", check=at_least(0))
    num_epochs: int = option(120, "of search, at most", check=at_least(1))
    split: Split = option(
        (1, 1),
        "weights:λ, samples and steps; or none",
        parse=parse_split,
        show=show_split,
        check=check_split,
    )
    shrink_every: int = option(5, "epochs between removals", check=at_least(1))
    patience: int = option(10, "epochs without change to stop", check=at_least(1))
    learning_rate: float = option(0.1, "of weights and λ", "--lr", check=positive)
    momentum: float = option(0.9, "of weights and λ", check=fraction)
    weight_decay: float = option(3e-4, "weight decay, not of λ", "--wd", check=not_negative)
    gamma: float = option(0.001, "weight of L1 on λ", check=not_negative)
    momentum_schedule: str = option(
        "constant", "of λ: as given, or growing as in APG", choices=("constant", "apg")
    )
    clip_gradient: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("clip_gradient", self.clip_gradient)


@dataclass(frozen=True)
class BudgetOptions(Options):
    """What adapts γ by connection (section 3.4), and where a search shall end."""

    budget: Optional[str] = option(
        None,
        "what adapts γ by connection; if none is given flops in the full scope",
        choices=BUDGETS,
    )
    gamma0: Optional[float] = option(
        None, "γ0 of budget latency; half of γ if not given", parse=float
    )
    latency_table: Optional[str] = place(
        None, "of tools/measure_latency.py, for budget latency; measured each epoch if not given"
    )
    search_flops: Optional[int] = option(
        None,
        "beyond the paper: adapt γ so that the search ends within 5%% of these multiply-adds",
        parse=number,
    )
