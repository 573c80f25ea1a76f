"""Searches and trainings from Python: the scripts for small images; results show themselves.

>>> import dsonas_mx as dso
>>> run = dso.search("photos")
>>> net = run.train()
>>> net.export()
>>> net.predict("new.png")

Every option of a script is a keyword of its name, and what it writes into a run folder is written.
"""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Type, Union

import numpy as np

from .data import DATA_SETS
from .io.files import PathLike, read_json
from .io.options import Groups, members

if TYPE_CHECKING:
    from .deploy.predictor import Guess
    from .space.mobile_architecture import AnyArchitecture

_CHECKOUT = Path(__file__).resolve().parents[1]
# What a training takes from the search whose architecture it trains, if nothing else is given.
_SAME = "data_set data_dir image_size demo preset normalize seed gpus cpus".split()


@dataclass(frozen=True)
class Result:
    """A run folder; in a notebook, what is in it."""

    folder: Path

    @property
    def options(self) -> Dict[str, Any]:
        """What the run was asked for, by name."""
        found: Dict[str, Any] = read_json(self.folder / "args.json")["options"]
        return found

    @property
    def metrics(self) -> Dict[str, np.ndarray]:
        """What each epoch did: the columns of ``metrics.csv``."""
        from .plots import read_table

        return dict(read_table(self.folder / "metrics.csv"))

    @property
    def architecture(self) -> AnyArchitecture:
        """What was found, or is trained."""
        from .space.mobile_architecture import load_architecture

        return load_architecture(self.folder / "architecture.json")

    def report(self, path: PathLike) -> Path:
        """Write a page of all that is known of the run."""
        from .report import write_report

        return write_report([self.folder], path)

    def _repr_png_(self) -> bytes:
        from .plots import draw_curves, png

        return png(draw_curves(self.metrics))

    def _repr_html_(self) -> str:
        from .report.page import classified, image, outcome_of, results

        parts = [f"<p><code>{html.escape(str(self.folder))}</code></p>"]
        if (self.folder / "lambdas.csv").is_file():  # of a search
            parts.append(image(self.architecture._repr_png_(), "png", "the block"))
        parts.append(image(self._repr_png_(), "png", "learning curves"))
        parts += results(outcome_of(self.folder)) + classified(self.folder)
        return "\n".join(parts)


class Searched(Result):
    """A search that came to its end."""

    def train(self, **options: Any) -> Trained:
        """Train what was found on the images of the search; see `train`."""
        same = {k: v for k, v in self.options.items() if k in _SAME and v is not None}
        if same.get("data_set") not in DATA_SETS:  # one's own
            same.pop("data_set", None)
        return _train({"architecture": self.folder / "architecture.json", **same, **options})


class Trained(Result):
    """A training that came to its end."""

    @property
    def result(self) -> Dict[str, Any]:
        """Test error, size and, by class, errors."""
        found: Dict[str, Any] = read_json(self.folder / "result.json")
        return found

    def export(
        self,
        fuse: bool = False,
        int8: bool = False,
        onnx: bool = False,
        images: int = 128,
        uint8_input: bool = False,
        classes: Optional[Sequence[str]] = None,
    ) -> Path:
        """Write the deployed network with its card, ``model.json``, as tools/export.py does.

        Parameters
        ----------
        fuse, int8, onnx : bool
            Forms besides that of MXNet.
        images : int
            To calibrate int8 with.
        uint8_input : bool
            Normalise inside the network.
        classes : sequence of str, optional
            Other names of the classes.

        Returns
        -------
        Path
            The card.
        """
        from .deploy.forms import deploy
        from .deploy.samples import batches, sample_images
        from .deploy.trained import read_trained

        symbols = _module("symbols")
        trained = read_trained(
            self.folder, symbols.network_of, _module("symbols.segmentation").deeplab
        )
        names = None if classes is None else tuple(classes)
        card = trained.card(None, uint8_input, None, names)
        given = {"fused": fuse, "int8": int8, "onnx": onnx}
        forms = ["mxnet", *(form for form, wanted in given.items() if wanted)]
        count = images if int8 else 1
        calibration, _, real = sample_images(trained, card, None, count, 1)
        if int8 and not real:
            raise ValueError(
                "int8 needs the images that the run was trained on, which are not here"
            )
        deploy(trained.net, self.folder / "model", card, forms, batches(calibration, 8))
        return self.folder / "model.json"

    def predict(
        self, images: Any, top: int = 5, form: Optional[str] = None
    ) -> Union[List[Guess], List[List[Guess]]]:
        """The likeliest classes of a picture, or of each of a list of pictures.

        Parameters
        ----------
        images : path or array, or list of these
            As `Predictor.classify` takes them.
        top : int
            How many classes.
        form : str, optional
            Which form of the deployed network.
        """
        from .deploy.predictor import Predictor

        if not (self.folder / "model.json").is_file():
            self.export()
        with Predictor(self.folder / "model.json", form) as predictor:
            several = isinstance(images, (list, tuple))
            answers = predictor.classify(images if several else [images], top)
        return answers if several else answers[0]


def search(data: Optional[PathLike] = None, **options: Any) -> Searched:
    """Search an architecture on small images: what train/search_cifar.py does.

    Parameters
    ----------
    data : path or str
        One's own images, or the name of a data set, such as ``'fashion_mnist'``, which is embedded.
    **options
        Those of the script, by name: ``preset='quick'``, ``seed=3``, ``resume=True``.

    Raises
    ------
    TypeError
        There is no such option.
    ValueError, OSError
        As the script.
    """
    return Searched(_run("search_cifar", {**_source(data), **options}))


def train(data: Optional[PathLike] = None, **options: Any) -> Trained:
    """Train the network of an architecture: what train/train_cifar.py does.

    Parameters
    ----------
    data : path or str
        As of `search`.
    **options
        Those of the script, by name; one of `architecture`, `random` and `full_network`.
    """
    return _train({**_source(data), **options})


def _train(options: Mapping[str, Any]) -> Trained:
    chosen = [name for name in ("architecture", "random", "full_network") if options.get(name)]
    if len(chosen) != 1:
        raise ValueError(
            "give one of architecture, random and full_network, got "
            f"{' and '.join(chosen) if chosen else 'none'}"
        )
    return Trained(_run("train_cifar", options))


def _source(data: Optional[PathLike]) -> Dict[str, Any]:
    if data is None:
        return {}
    if str(data) in DATA_SETS and not Path(data).exists():
        return {"data_set": str(data)}
    return {"data_dir": str(data)}


def _run(script: str, given: Mapping[str, Any]) -> Path:
    """Do what a script does; the run folder."""
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
    module = _module(f"train/{script}.py")
    values = values_of(module.Options, given)
    if values.get("demo"):
        values = {**module.DEMO, **values}
    options = module.Options.of(values, given)
    module.main(options)
    return Path(options.run.save_dir)


def values_of(options: Type[Groups], given: Mapping[str, Any]) -> Dict[str, Any]:
    """Values by their names in a record, of keywords: those, or the names of fields.

    Texts are read as on a command line.

    Raises
    ------
    TypeError
        There is no such option.
    ValueError
        A text cannot be read, or is none of the choices.
    """
    known = {name: one for _, name, one in members(options)}
    known.update({one.record: one for _, _, one in members(options)})
    values: Dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise TypeError(f"no option {name!r}" + (f": is it {close[0]}?" if close else ""))
        one = known[name]
        value = str(value) if isinstance(value, os.PathLike) else value
        if isinstance(value, str) and one.parse is not None:
            value = one.parse(value)
        if one.choices and value is not None and value not in one.choices:
            raise ValueError(f"`{name}` must be {', '.join(one.choices)}, got {value!r}")
        values[one.record] = value
    return values


@lru_cache(maxsize=None)
def _module(name: str) -> Any:
    """A script, by its file in the checkout; or a package that lies on this one, when it is used.

    Raises
    ------
    ValueError
        There are no scripts: the packages were installed without them.
    """
    if not name.endswith(".py"):
        return import_module(name)
    path = _CHECKOUT / name
    if not path.is_file():
        raise ValueError(f"{path}: not there; searches and trainings need a checkout of dsonas_mx")
    from .cli.parser import load_script

    return load_script(path)
