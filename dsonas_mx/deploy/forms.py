"""All forms of a deployed network with their card, and what a fresh process finds in them."""

import statistics
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..io.checks import check_choice
from ..io.files import PathLike, move, naming, sha256
from .card import FORMS, Card
from .export import temporary_folder, write_pair
from .fold import fold
from .onnx import require_onnx, write_onnx
from .pad_channels import pad_channels
from .quantize import quantize
from .rewrite import Arrays, Folded
from .serving import NotInstalled, Serving, in_batches
from .split_concat import split_concat


def traced(net: HybridBlock, card: Card) -> Folded:
    """Symbol and parameters of a network, with its normalisation if the card asks for it.

    Of several outputs (an auxiliary tower's, a second head's) the first is deployed.
    """
    constants: Arrays = {}
    if card.uint8_input:
        mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (card.mean, card.std))
        constants = {"pixel_mean": 255 * mean, "pixel_scale": 1 / (255 * std)}
    with mx.name.NameManager():  # the same names of nodes, whatever this process built before
        data = mx.sym.Variable("data")
        if constants:
            mean, scale = (mx.sym.Variable(name, shape=v.shape) for name, v in constants.items())
            data = mx.sym.broadcast_sub(mx.sym.cast(data, dtype="float32"), mean)
            data = mx.sym.broadcast_mul(data, scale)
        outputs = net(data)
    symbol = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    arrays.update(constants)
    return Folded(
        symbol,
        {name: arrays[name] for name in symbol.list_arguments() if name != "data"},
        {name: arrays[name] for name in symbol.list_auxiliary_states()},
    )


def deploy(
    net: HybridBlock,
    prefix: PathLike,
    card: Card,
    forms: Sequence[str] = ("mxnet",),
    calibration: Sequence[np.ndarray] = (),
) -> Card:
    """Write forms of a network and ``PREFIX.json``, their card.

    Parameters
    ----------
    net : HybridBlock
        With parameters on the CPU.
    card : Card
        What is known of the network; its name and forms are filled in.
    forms : sequence of {'mxnet', 'fused', 'int8', 'onnx'}
        As Gluon computes it; with MKLDNN's fused operators, in float or in bytes, for a CPU; for
        ONNX Runtime and others.
    calibration : sequence of numpy.ndarray
        Pixels for int8: uint8, B×C×H×W, all of one shape.

    Returns
    -------
    Card

    Raises
    ------
    ValueError
        A form is unknown, or cannot be made of this network.
    """
    for form in forms:
        check_choice("form", form, FORMS)
    if "onnx" in forms:
        require_onnx()  # before anything is written
    prefix = Path(prefix)
    card = replace(card, name=prefix.name, forms={})  # checked before anything is written
    prefix.parent.mkdir(parents=True, exist_ok=True)
    plain = traced(net, card)
    folded = fold(*plain) if set(forms) - {"mxnet"} else plain
    # Into a folder of its own first, so that a full disk leaves no half of a pair.
    with naming(prefix), temporary_folder(prefix) as folder:
        place = folder / prefix.name
        written: Dict[str, List[Path]] = {}
        for form in forms:
            if form == "mxnet":
                written[form] = _write(plain, place)
            elif form == "onnx":
                path, any_size = place.with_name(f"{prefix.name}.onnx"), card.resize == "none"
                write_onnx(folded, path, card.shape, card.dtype, card.batch, any_size)
                written[form] = [path]
            else:
                if form == "int8":
                    network = quantize(folded, [card.prepare(pixels) for pixels in calibration])
                else:
                    network = fuse(fold(*plain, pairs=False))
                written[form] = _write(network, place.with_name(f"{prefix.name}-{form}"))
        digests = {
            form: {path.name: sha256(path) for path in paths} for form, paths in written.items()
        }
        card = replace(card, forms=digests)
        for path in (path for paths in written.values() for path in paths):
            move(path, prefix.parent / path.name)
    card.save(prefix.with_name(f"{prefix.name}.json"))
    return card


def fuse(network: Folded) -> Folded:
    """A folded network with MKLDNN's operators, on whole blocks of channels and without joins."""
    padded = pad_channels(split_concat(network))
    return padded._replace(symbol=padded.symbol.get_backend_symbol("MKLDNN"))


def _write(network: Folded, prefix: Path) -> List[Path]:
    arrays = {**network.arguments, **network.auxiliary}
    return write_pair(network.symbol, arrays, set(network.auxiliary), prefix)


def check(
    prefix: PathLike, card: Card, pixels: np.ndarray, expected: np.ndarray, rounds: int = 5
) -> List[Dict[str, Any]]:
    """Load every form in a fresh process that does not know this project, and compare.

    Parameters
    ----------
    pixels : numpy.ndarray
        Images, uint8 B×C×H×W, whose Gluon outputs are `expected`.
    rounds : int
        Of the latencies, which take turns.

    Returns
    -------
    list of dict
        By form: the largest `difference` of an output, and its share of the largest output;
        `agreement`, the share of equal labels; `ms_1`, `ms_8`, median milliseconds of a batch of 1
        and 8; None where the form does not run here, with the reason in `error`.
    """
    rows: List[Dict[str, Any]] = []
    served: Dict[str, Serving] = {}
    data = card.prepare(pixels)
    with ExitStack() as stack:
        for form in card.forms:
            rows.append({"form": form, "error": None})
            try:
                serving = Serving(form, card.files(Path(prefix).parent, form), card.dtype)
            except NotInstalled as error:
                rows[-1]["error"] = str(error)
                continue
            served[form] = stack.enter_context(serving)
            outputs = in_batches(serving, data, card.batch if form == "onnx" else None)
            difference = float(np.abs(outputs - expected).max())
            rows[-1]["difference"] = difference
            rows[-1]["relative"] = difference / float(np.abs(expected).max())
            rows[-1]["agreement"] = float((outputs.argmax(1) == expected.argmax(1)).mean())
        for size in (1, 8):
            batch = np.resize(data, (size, *data.shape[1:]))
            fits = {
                form: serving
                for form, serving in served.items()
                if form != "onnx" or card.batch in (None, size)
            }
            milliseconds: Dict[str, List[float]] = {form: [] for form in fits}
            for _ in range(rounds + 2):
                for form, serving in fits.items():
                    serving(batch)
                    milliseconds[form].append(1e3 * serving.seconds)
            for row in rows:
                times = milliseconds.get(row["form"])
                row[f"ms_{size}"] = statistics.median(times[2:]) if times else None
    return rows


def table(rows: Sequence[Dict[str, Any]]) -> str:
    """What `check` found, in columns."""
    lines = [
        f"{'form':<8}{'difference':>12}{'relative':>10}{'agreement':>11}{'ms 1':>9}{'ms 8':>9}"
    ]
    for row in rows:
        if row.get("error"):
            lines.append(f"{row['form']:<8}  not run: {row['error']}")
            continue
        lines.append(
            f"{row['form']:<8}{row['difference']:>12.2g}{row['relative']:>10.2g}"
            f"{row['agreement']:>10.2%} {_ms(row['ms_1']):>9}{_ms(row['ms_8']):>9}"
        )
    return "\n".join(lines)


def _ms(value: Any) -> str:
    return "–" if value is None else f"{value:.2f}"
