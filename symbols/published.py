"""The networks that tables 2, 3 and 5 compare with, for images of 224×224."""

import warnings
from typing import Callable, Dict, NamedTuple, Optional

from dsonas_mx._compat import left_alone

from mxnet.gluon import HybridBlock

from . import network_of
from .darts import DARTS
from .mobile import proxyless

SIDE = 224  # of the images


def _gluoncv(name: str, **options: object) -> HybridBlock:
    with left_alone(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks that are not there
        from gluoncv import model_zoo  # here, as it takes seconds

    net = model_zoo.get_model(name, pretrained=False, **options)
    net.initialize()  # its shapes are known only then
    return net


def _proxyless(name: str) -> HybridBlock:
    return network_of(proxyless(name))


class Network(NamedTuple):
    """A network, and what was published of it.

    Attributes
    ----------
    build : callable
    parameters, multiply_adds : float, optional
        As their authors say.
    table3_cpu, table3_gpu, table5_cpu, table5_gpu : float, optional
        ms, as the tables of DSO-NAS have them: batch 1, but for table 3's GPU, which is at 8.
    """

    build: Callable[[], HybridBlock]
    parameters: Optional[float]
    multiply_adds: float
    table3_cpu: Optional[float] = None
    table3_gpu: Optional[float] = None
    table5_cpu: Optional[float] = None
    table5_gpu: Optional[float] = None


NETWORKS: Dict[str, Network] = {
    "MobileNet": Network(lambda: _gluoncv("mobilenet1.0"), 4.2e6, 569e6, 11.7, 5.4, 28.21, 1.87),
    "MobileNetV2": Network(lambda: _gluoncv("mobilenetv2_1.0"), 3.4e6, 300e6, 20.5, 6.2),
    "Proxyless (GPU)": Network(lambda: _proxyless("mobile-gpu"), 7.1e6, 465e6, 15.3, 6.2),
    "Proxyless (CPU)": Network(lambda: _proxyless("mobile-cpu"), 4.4e6, 439e6, 21.7, 7.3),
    # GluonCV's default stem of 96 channels is that of the large network; the mobile one has 32.
    "NASNet-A": Network(
        lambda: _gluoncv("nasnet_4_1056", use_aux=False, stem_filters=32),
        5.3e6,
        564e6,
        table5_cpu=35.54,
        table5_gpu=10.45,
    ),
    "DARTS": Network(DARTS, 4.7e6, 574e6, table5_cpu=17.52, table5_gpu=7.69),
}
