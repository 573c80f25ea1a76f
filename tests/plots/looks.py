"""What a figure says, and whether it fits its page."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg


def texts(figure):
    return [text.get_text() for text in (*figure.texts, *(t for a in figure.axes for t in a.texts))]


def runs_off(image):
    """Whether anything touches an edge of the white page."""
    edges = (image[0], image[-1], image[:, 0], image[:, -1])
    return any((edge != image.max()).any() for edge in edges)


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(60)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
