#!/usr/bin/env python
"""The whole way on real images: search, train, export, draw, and compare with a random one.

Everything goes under runs/demo: search/architecture.json is what was found, result.json the
summary. A demo that was interrupted goes on where it was; what a complete one left is removed.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dsonas_mx import Architecture
from dsonas_mx.cli.parser import Parser, run
from dsonas_mx.io.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("search", "train", "random", "result.json")


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--folder", default="runs/demo")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def is_demo(folder: Path) -> bool:
    """Whether a run folder is that of a demo, not of somebody's own run."""
    if {path.name for path in folder.iterdir()} <= {"checkpoint"}:
        return True  # killed in its first moment
    try:
        return read_json(folder / "args.json")["options"]["demo"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def script(name: str, *words: str) -> None:
    """Run a script of the project with this interpreter; end if it fails."""
    print(f"\n$ python {name} {' '.join(words)}", flush=True)
    # Ctrl-C reaches the script too, which ends with a checkpoint, and this one then.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        done = subprocess.run([sys.executable, str(ROOT / name), *words], check=False)
    finally:
        signal.signal(signal.SIGINT, before)
    if done.returncode:
        sys.exit(done.returncode)


def main(options: argparse.Namespace) -> None:
    start = time.time()
    folder = Path(options.folder)
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in PARTS or (path.is_dir() and not is_demo(path)):
            raise ValueError(f"{path} is not from a demo: remove it, or give another --folder")
    if (folder / "result.json").exists():
        shutil.rmtree(folder)
    seed = ("--demo", "--resume", "--seed", str(options.seed))
    search, train, random = (folder / name for name in ("search", "train", "random"))
    script("train/search_cifar.py", *seed, "--save-dir", str(search))
    path = search / "architecture.json"
    found = Architecture.load(path)
    script("train/train_cifar.py", *seed, "--architecture", str(path), "--save-dir", str(train))
    like = ("--random", "share", "--like", str(path))
    script("train/train_cifar.py", *seed, *like, "--save-dir", str(random))
    script("tools/export.py", str(train))
    for drawn in (search, train):
        script("tools/plot.py", str(drawn))
    results = [read_json(one / "result.json") for one in (train, random)]
    names = ("connections", "parameters", "multiply_adds", "test_error")
    result = {name: results[0][name] for name in names}
    result["random_test_error"] = results[1]["test_error"]
    write_json(folder / "result.json", result)
    print(
        f"\nfound in {(time.time() - start) / 60:.1f} minutes, in {folder}:\n"
        f"  connections        {result['connections']:>12,} of {found.space.num_connections}\n"
        f"  parameters         {result['parameters']:>12,}\n"
        f"  multiply-adds      {result['multiply_adds']:>12,}\n"
        f"  test error         {result['test_error']:>12.2%}\n"
        f"  of a random one    {result['random_test_error']:>12.2%}  "
        f"({results[1]['parameters']:,} parameters)\n"
        f"  pictures           {search / 'block.png'}, {search / 'lambdas.png'}"
    )


if __name__ == "__main__":
    run(main, arguments())
