"""The operations of a block (section 3.1): a row each, with all that is known by its name.

What an operation does is in `symbols/operations.py`, and for the CPU in `native/level.h`.
"""

from typing import Dict, NamedTuple


class Operation(NamedTuple):
    """A row.

    Attributes
    ----------
    kernel : int
        Side of the window.
    is_separable : bool
        A depthwise and a pointwise convolution; or else a pool of stride 1.
    title : str
        For people.
    colour : str
        In pictures: Okabe and Ito's, which the colour-blind can tell apart; convolutions cool,
        pools warm.
    authors : str
        What the authors' release calls it in the names of parameters.
    """

    kernel: int
    is_separable: bool
    title: str
    colour: str
    authors: str


# In the order of the reference vectors, which is that of λ.
TABLE: Dict[str, Operation] = {
    "sep3": Operation(3, True, "separable 3×3", "#0072B2", "conv3x3"),
    "sep5": Operation(5, True, "separable 5×5", "#56B4E9", "conv5x5"),
    "max": Operation(3, False, "max pooling 3×3", "#D55E00", "max_pool"),
    "avg": Operation(3, False, "average pooling 3×3", "#E69F00", "avg_pool"),
    "sep7": Operation(7, True, "separable 7×7", "#009E73", "conv7x7"),
}
OPERATIONS = tuple(TABLE)
DEFAULT_OPERATIONS = OPERATIONS[:4]  # the paper's
LISTED = ("sep3", "avg", "max", "sep5", "sep7")  # table 9 has the first N of these
