"""Pixel accuracy and mean IoU over a whole set, as VOC defines them."""

import numpy as np


class Confusion:
    """Counts of pixels by true and predicted class; ignored pixels count nowhere.

    Parameters
    ----------
    num_classes : int

    Attributes
    ----------
    counts : numpy.ndarray
        int64, true class × predicted class.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, prediction: np.ndarray, labels: np.ndarray) -> None:
        """Count images: predicted and true classes of the same shape, the latter below 0 where
        ignored."""
        if prediction.shape != labels.shape:
            raise ValueError(f"prediction is {prediction.shape}, labels are {labels.shape}")
        labelled = labels >= 0
        size = len(self.counts)
        pairs = labels[labelled].astype(np.int64) * size + prediction[labelled].astype(np.int64)
        self.counts += np.bincount(pairs, minlength=size**2).reshape(size, size)

    @property
    def pixel_accuracy(self) -> float:
        """Right pixels of all labelled ones."""
        return float(np.trace(self.counts) / max(self.counts.sum(), 1))

    @property
    def iou(self) -> np.ndarray:
        """Of each class, right / (true + predicted − right); nan for one that is in neither."""
        right = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - right
        return np.where(union > 0, right / np.maximum(union, 1), np.nan)

    @property
    def mean_iou(self) -> float:
        """The mean over the classes that are in labels or predictions."""
        present = self.iou[~np.isnan(self.iou)]
        return float(present.mean()) if len(present) else 0.0

    def of_constant(self) -> float:
        """The mean IoU of predicting the most frequent class everywhere."""
        true = self.counts.sum(1)
        return float(true.max() / max(true.sum(), 1) / max(np.count_nonzero(true), 1))
