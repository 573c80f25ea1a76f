"""All forms of a deployed network with their card, and what a fresh process finds in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from ..io.files import PathLike
from ..io.params_file import write_params
from .card import FORMS, Card, sha256
from .fold import Arrays, Folded, fold
from .onnx import require_onnx, write_onnx
from .pad_channels import pad_channels
from .quantize import quantize

_CHECK = Path(__file__).with_name("check_deployed.py")


def traced(net: HybridBlock, card: Card) -> Folded:
    """Symbol and parameters of a network, with its normalisation if the card asks for it.

    Of several outputs (an auxiliary tower's, a second head's) the first is deployed.
    """
    constants: Arrays = {}
    data = mx.sym.Variable("data")
    if card.uint8_input:
        mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (card.mean, card.std))
        constants = {"pixel_mean": 255 * mean, "pixel_scale": 1 / (255 * std)}
        data = mx.sym.cast(data, dtype="float32")
        data = mx.sym.broadcast_sub(data, mx.sym.Variable("pixel_mean"))
        data = mx.sym.broadcast_mul(data, mx.sym.Variable("pixel_scale"))
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
        ``'fused'`` and ``'int8'`` have MKLDNN's operators and run on a CPU.
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
        if form not in FORMS:
            raise ValueError(f"form must be {', '.join(FORMS)}, got {form!r}")
    if "onnx" in forms:
        require_onnx()  # before anything is written
    prefix = Path(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    plain = traced(net, card)
    folded = fold(*plain) if set(forms) - {"mxnet"} else plain
    with tempfile.TemporaryDirectory(prefix=f".{os.getpid()}.", dir=prefix.parent) as folder:
        written: Dict[str, List[str]] = {}
        for form in forms:
            where = Path(folder) / prefix.name
            if form == "mxnet":
                written[form] = write_pair(plain, where)
            elif form == "onnx":
                name = f"{prefix.name}.onnx"
                path, any_size = Path(folder) / name, card.resize == "none"
                write_onnx(folded, path, card.shape, card.dtype, card.batch, any_size)
                written[form] = [name]
            else:
                if form == "int8":
                    network = quantize(folded, [card.prepare(pixels) for pixels in calibration])
                else:
                    network = pad_channels(folded)
                    symbol = network.symbol.get_backend_symbol("MKLDNN")
                    network = network._replace(symbol=symbol)
                written[form] = write_pair(network, where.with_name(f"{prefix.name}-{form}"))
        digests = {
            form: {name: sha256(Path(folder) / name) for name in names}
            for form, names in written.items()
        }
        card = replace(card, name=prefix.name, forms=digests)
        for name in (name for names in written.values() for name in names):
            os.replace(Path(folder) / name, prefix.parent / name)
    card.save(prefix.with_name(f"{prefix.name}.json"))
    return card


def write_pair(network: Folded, prefix: Path) -> List[str]:
    """PREFIX-symbol.json and PREFIX-0000.params, as MXNet reads them; returns their names."""
    names = [f"{prefix.name}-symbol.json", f"{prefix.name}-0000.params"]
    network.symbol.save(str(prefix.with_name(names[0])))
    arrays = {
        **{f"arg:{name}": array for name, array in network.arguments.items()},
        **{f"aux:{name}": array for name, array in network.auxiliary.items()},
    }
    write_params(prefix.with_name(names[1]), arrays)
    return names


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
    folder = Path(prefix).parent
    with tempfile.TemporaryDirectory() as scratch:
        arrays = os.path.join(scratch, "arrays.npz")
        np.savez(arrays, data=card.prepare(pixels), expected=expected)
        forms = {
            form: [str(path.resolve()) for path in card.files(folder, form)] for form in card.forms
        }
        words = [sys.executable, str(_CHECK), arrays, json.dumps(forms), str(rounds)]
        words.append(str(card.batch or 0))
        done = subprocess.run(
            words,
            cwd=scratch,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise ValueError(f"the files could not be checked in a fresh process: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


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
