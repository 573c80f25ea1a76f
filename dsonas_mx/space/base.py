"""What shows itself in a notebook."""

from __future__ import annotations


class Shown:
    """An architecture, which is its picture in a notebook."""

    def _repr_png_(self) -> bytes:
        from ..plots import draw_architecture, png  # which are made of architectures

        return png(draw_architecture(self))
