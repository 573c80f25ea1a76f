"""What may come from anybody goes the way that users go: through tools/predict.py, in a process of
its own. Whatever is in a card, its files or a picture, that answers, or says in one line why not.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from dsonas_mx.deploy.card import Card
from dsonas_mx.deploy.forms import deploy
from dsonas_mx.io.files import sha256
from dsonas_mx.io.params_file import read_params, write_params

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FORMS = ("mxnet", "fused", "int8", "onnx")

# Loads everything once, and forks for each command; prints how each ended: status or −signal, and
# what it said.
FORKS = """
import json, os, runpy, signal, sys, tempfile
sys.path.insert(0, sys.argv[1])
import dsonas_mx.cli.parser, dsonas_mx.data.voc, dsonas_mx.deploy.predictor
for line in sys.stdin:
    words, said = json.loads(line), tempfile.TemporaryFile()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        signal.alarm(int(sys.argv[2]))  # its default action ends what waits for ever
        sys.argv = [sys.argv[1] + "/tools/predict.py", *words]
        code = 0
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    said.seek(0)
    ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    print(json.dumps([ended, said.read().decode(errors="replace")]), flush=True)
"""

VALUES = """0|1|2|-1|7|8|9999|100000000|1e30|nan|inf|True|False|None||(0, 0)|(1, 1)|(2, 2)|(3, 3)
(9999, 9999)|(8, 8)|(1,)|()|(1, 1, 1)|(-1, -1)|max|avg|relu|sigmoid|full|same|valid|float32|int8
uint8|auto|like|NCHW|NHWC|true|0.5|(0, 1, 2, 3)""".replace("\n", "|").split("|")


@pytest.fixture(scope="module")
def good(tmp_path_factory, tiny_space, randomised, some_architecture):
    """A folder with a card, all forms that can be made here, and pictures."""
    folder = tmp_path_factory.mktemp("good")
    space = tiny_space(operations=("sep3", "max", "avg"), in_channels=3, width=8)
    card = Card("", "classification", ("a", "b", "ü"), (3, 8, 8), (0.5,) * 3, (0.25,) * 3)
    pixels = np.random.RandomState(0).randint(0, 256, (4, 3, 8, 8)).astype(np.uint8)
    forms = FORMS
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        forms = FORMS[:3]
    deploy(randomised(some_architecture(space)), folder / "net", card, forms, [pixels])
    picture = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    for suffix in ("png", "jpg", "webp", "tif", "bmp"):
        picture.save(folder / f"picture.{suffix}")
    return folder


@pytest.fixture(scope="module")
def forks():
    """`forks(words)`: how `predict.py` ended, and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS, str(ROOT), "120"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MXNET_ENGINE_TYPE": "NaiveEngine", "PYTHONUTF8": "1"},
    )

    def run(*words):
        process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    process.stdout.close()
    process.wait()


def damaged(chance, content):
    """Some bytes changed, taken out or put in."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(content) or 1)
        kind = chance.randrange(4)
        if kind == 0 and content:
            content[at] = chance.randrange(256)
        elif kind == 1:
            del content[at : at + chance.randint(1, 60)]
        elif kind == 2:
            content[at:at] = chance.choices(range(256), k=chance.randint(1, 9))
        else:
            content[at : at + 8] = bytes([chance.choice([0, 255, 127])]) * chance.randint(1, 8)
    return bytes(content)


def other_graph(chance, graph):
    """A graph that is still JSON, and mostly still one of MXNet."""
    nodes = graph["nodes"]
    node = chance.choice(nodes)
    if node.get("subgraphs") and chance.random() < 0.5:
        other_graph(chance, node["subgraphs"][0])
        return
    busy = [n for n in nodes if n["inputs"]]
    kind = chance.randrange(9)
    if kind <= 3:  # attributes, most of them of operators
        node = chance.choice(busy or nodes) if chance.random() < 0.8 else node
        attributes = node.setdefault("attrs", {})
        names = sorted({k for n in nodes for k in n.get("attrs", {})}) or ["kernel"]
        if chance.random() < 0.7 and attributes:
            names = sorted(attributes)
        name = chance.choice(names)
        if chance.random() < 0.15:
            attributes.pop(name, None)
        else:
            attributes[name] = chance.choice(VALUES)
    elif kind == 4:
        node["op"] = chance.choice(nodes)["op"]
    elif kind == 5 and busy:
        inputs = chance.choice(busy)["inputs"]
        entry = chance.choice(inputs)
        entry[chance.randrange(len(entry))] = chance.choice([0, 1, 2, 3, len(nodes), 2**31, -1])
    elif kind == 6 and busy:
        inputs = chance.choice(busy)["inputs"]
        if chance.random() < 0.5:
            inputs.pop()
        else:
            inputs.append(list(chance.choice(inputs)))
    elif kind == 7:
        graph["heads"][0] = [chance.randrange(len(nodes) + 2), chance.randrange(4), 0]
    else:
        first, second = chance.choice(nodes), chance.choice(nodes)
        first["name"], second["name"] = second["name"], first["name"]


def other_arrays(chance, path):
    """Parameters of other shapes, types, names and values."""
    arrays = {name: np.array(array) for name, array in read_params(path).items()}
    name = chance.choice(sorted(arrays))
    array, kind = arrays[name], chance.randrange(6)
    if kind == 0:
        arrays[name] = array.astype(chance.choice(["f4", "f8", "f2", "i1", "u1", "i4", "i8"]))
    elif kind == 1:
        arrays[name] = np.resize(array, chance.choice([(1,), (0, 3), (8, 8, 1, 1), (3, 2**20)]))
    elif kind == 2:
        array.flat[0] = chance.choice([np.nan, np.inf, 3e38]) if array.dtype.kind == "f" else 0
    elif kind == 3:
        del arrays[name]
    elif kind == 4:
        arrays[chance.choice(["arg:data", "x", "aux:data", name[4:], "é"])] = arrays.pop(name)
    else:
        other = chance.choice(sorted(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    write_params(path, arrays)


ANYTHING = [None, True, -1, 0, 1, 3, 10**18, 1.5, -1e300, 1e300, "", "x", "\x1b[31m", "\ud800"]
ANYTHING += [[], {}, [1], ["a"] * 3, ["\x1b]0;x\x07"] * 3, [1e400] * 3, [0] * 3, [[]], {"a": 1}]
ANYTHING += [[3, 16, 8], [1, 8, 8], [3, 10**9, 10**9], "centre", "none", "segmentation", "../x"]


def other_card(chance, card):
    """A card whose fields are of other kinds and values."""
    for _ in range(chance.randint(1, 2)):
        name = chance.choice(sorted(card))
        kind = chance.randrange(10)
        if kind == 0:
            del card[name]
        elif kind == 1:
            card[chance.choice(["extra", "Name"])] = chance.choice(ANYTHING)
        elif name == "forms" and kind < 7:
            files = card["forms"][chance.choice(sorted(card["forms"]) or ["mxnet"])]
            files[chance.choice([*files, "../x", "/etc/passwd", "a\0b"])] = chance.choice(ANYTHING)
        elif isinstance(card[name], list) and card[name] and kind < 7:
            card[name][chance.randrange(len(card[name]))] = chance.choice(ANYTHING)
        else:
            card[name] = chance.choice(ANYTHING)
        if not isinstance(card.get("forms"), dict) or not card["forms"]:
            return


def case(number, good, folder):
    """The words of a command, over files in `folder` that are changed by this number."""
    chance = random.Random(number)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    forms = sorted(json.loads((good / "net.json").read_text(encoding="utf-8"))["forms"])
    form = chance.choice(forms)
    picture = folder / f"picture.{chance.choice(['png', 'jpg', 'webp', 'tif', 'bmp'])}"
    names = {"mxnet": "net", "fused": "net-fused", "int8": "net-int8"}
    kind = chance.choices(
        ["graph", "arrays", "bytes", "onnx", "card", "card bytes", "picture", "strange"],
        [34, 12, 6, 10, 14, 4, 16, 4],
    )[0]
    if kind == "onnx" and "onnx" in forms:
        form = "onnx"
    elif kind in ("graph", "arrays", "bytes") and form == "onnx":
        form = chance.choice(["mxnet", "fused", "int8"])
    if form in names:
        symbol, arrays = (folder / f"{names[form]}{e}" for e in ("-symbol.json", "-0000.params"))
    if kind == "graph":
        graph = json.loads(symbol.read_text(encoding="utf-8"))
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            other_graph(chance, graph)
        symbol.write_text(json.dumps(graph), encoding="utf-8")
    elif kind == "arrays":
        other_arrays(chance, arrays)
    elif kind == "bytes":
        path = chance.choice([symbol, arrays])
        path.write_bytes(damaged(chance, path.read_bytes()))
    elif kind == "onnx" and form == "onnx":
        path = folder / "net.onnx"
        path.write_bytes(damaged(chance, path.read_bytes()))
    elif kind == "picture":
        picture.write_bytes(damaged(chance, picture.read_bytes()))
    elif kind == "strange":
        path = chance.choice([picture, folder / "net.json", folder / f"{names.get(form)}x"])
        path.unlink(missing_ok=True)
        chance.choice([os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/zero")])(path)
    card = folder / "net.json"
    if card.is_file() and kind in ("graph", "arrays", "bytes", "onnx"):  # its digests are true
        data = json.loads(card.read_text(encoding="utf-8"))
        for files in data["forms"].values():
            files.update((name, sha256(folder / name)) for name in files)
        card.write_text(json.dumps(data), encoding="utf-8")
    elif kind == "card":
        data = json.loads(card.read_text(encoding="utf-8"))
        other_card(chance, data)
        card.write_text(json.dumps(data), encoding="utf-8")
    elif kind == "card bytes":
        card.write_bytes(damaged(chance, card.read_bytes()))
    return kind, form, [card, "--form", form, picture]


def wrong_with(ended, said):
    """What is wrong with how a command ended; None for an answer, or an error of one line."""
    if ended < 0:
        return f"ended by {signal.Signals(-ended).name}"
    if "Traceback" in said or ended not in (0, 2):
        return "a traceback, or another status than 0 and 2"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", said):
        return "control characters"
    # A JPEG has no checksums: libjpeg says what it found, and gives the picture.
    note = r"Corrupt JPEG data|Invalid SOS parameters|Premature end of JPEG|.*JPEG marker"
    lines = [line for line in said.splitlines() if not re.match(note, line)]
    return None if len(lines) == 1 else "not one line"


def attack(numbers, good, folder, run):
    """How many answered, were refused, and ended the process that runs the network; and what is
    wrong.
    """
    counts = {"answered": 0, "refused": 0, "contained": 0}
    wrong = []
    for number in numbers:
        kind, form, words = case(number, good, folder)
        ended, said = run(*words)
        why = wrong_with(ended, said)
        if why is not None:
            wrong.append(f"{number} ({kind}, {form}): {why}: {said[-400:]}")
        elif "ended the process that ran it" in said:
            counts["contained"] += 1
            print(number, kind, form, said.strip())
        else:
            counts["refused" if ended else "answered"] += 1
    return counts, wrong


def test_the_good_ones_are_answered(good, forks):
    for form in json.loads((good / "net.json").read_text(encoding="utf-8"))["forms"]:
        ended, said = forks(good / "net.json", "--form", form, good / "picture.png")
        assert ended == 0 and re.search(r"(a|b|ü) \d+\.\d%", said), said


def test_an_end_is_seen(good, forks, tmp_path):
    """What counts the ends would see one."""
    assert wrong_with(-signal.SIGFPE, "") == "ended by SIGFPE"
    assert wrong_with(1, "Traceback") and wrong_with(2, "two\nlines") and wrong_with(0, "\x1b[1m")
    assert wrong_with(*forks(tmp_path / "nowhere.json", good / "picture.png")) is None


def test_forty_cases(good, forks, tmp_path):
    counts, wrong = attack(range(40, 80), good, tmp_path / "case", forks)
    assert not wrong, "\n".join(wrong)
    assert counts["answered"] >= 2 and counts["refused"] >= 20


@pytest.mark.slow
def test_two_thousand_cases(good, forks, tmp_path):
    counts, wrong = attack(range(2000), good, tmp_path / "case", forks)
    print(counts)
    assert not wrong, "\n".join(wrong)
