"""FitOptions and SegmentationOptions: how a network is trained from scratch."""

from dataclasses import dataclass

from ..io.options import Options, at_least, fraction, not_negative, option
from .schedule import cosine, linear


@dataclass(frozen=True)
class FitOptions(Options):
    """How a network is trained; the defaults are the paper's for CIFAR-10 (section 4.2).

    Parameters
    ----------
    num_epochs : int
        The default is the end of the sixth period of the cosine.
    learning_rate : float
        l_max of the cosine, which changes once an epoch.
    final_learning_rate : float
        l_min of the cosine.
    period : int
        T_0, the epochs of the first period.
    factor : int
        T_mul, what each period is longer by than the last.
    momentum : float
        Of NAG.
    weight_decay : float
        Of NAG; only weights of convolutions and classifiers decay.
    schedule : {'cosine', 'linear'}
        Linear (the paper's for ImageNet) is a straight line over all epochs and has no periods.
    top5 : bool
        Count in tests how often the class is among the five most likely, if there are more.
    """

    num_epochs: int = option(630, "of training", check=at_least(1))
    learning_rate: float = option(0.05, "at the start of each period", "--lr", check=not_negative)
    final_learning_rate: float = option(0.001, "at the end of each period", "--final-lr")
    period: int = option(10, "epochs of the first cosine")
    factor: int = option(2, "growth of the period")
    momentum: float = option(0.9, "of the weights", check=fraction)
    weight_decay: float = option(3e-4, "weight decay", "--wd", check=not_negative)
    schedule: str = "cosine"
    top5: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                "`learning_rate` must not be below `final_learning_rate`, nor that below 0, got "
                f"{self.learning_rate} and {self.final_learning_rate}"
            )
        if self.schedule not in ("cosine", "linear"):
            raise ValueError(f"schedule must be cosine or linear, got {self.schedule!r}")
        cosine(0, 1, 0, self.period, self.factor)  # checks them

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        high, low = self.learning_rate, self.final_learning_rate
        if self.schedule == "linear":
            return linear(epoch, high, low, self.num_epochs)
        return cosine(epoch, high, low, self.period, self.factor)


@dataclass(frozen=True)
class SegmentationOptions(Options):
    """How a segmentation network is trained; the stages have the rest (section 4.4).

    Parameters
    ----------
    momentum : float
        Of SGD.
    weight_decay : float
        Of SGD; only weights of convolutions decay.
    test_every : int
        Epochs between tests; there always is one after the last.
    """

    momentum: float = option(0.9, "of the weights", check=fraction)
    weight_decay: float = option(4e-5, "weight decay", "--wd", check=not_negative)
    test_every: int = option(10, "epochs between tests", check=at_least(1))
