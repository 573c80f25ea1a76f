"""Building and loading the project's own operators."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

from dsonas_mx.engine import native

import pytest


def test_nothing_is_loaded_when_switched_off(monkeypatch):
    monkeypatch.setattr(native, "_loaded", None)
    monkeypatch.setenv(native.SWITCH, "0")
    assert not native.available()
    assert not native.load()


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """Where a package and its user keep libraries; a compiler that makes an empty one."""
    package, own = tmp_path / "package", tmp_path / "cache" / "dsonas_mx"
    for folder in (package, own):
        folder.mkdir(parents=True)
    for file in native.SOURCE.parent.iterdir():
        if file.suffix in (".cc", ".h"):
            shutil.copy(file, package)

    def compile(command, **how):
        Path(command[-1]).touch()
        Path(command[-1]).chmod(0o711)
        return subprocess.CompletedProcess(command, 0, "")

    monkeypatch.setattr(native, "SOURCE", package / "operators.cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own.parent))
    monkeypatch.setattr(native.shutil, "which", lambda name: "/usr/bin/g++")
    monkeypatch.setattr(native.subprocess, "run", compile)
    return package, own


def test_a_changed_source_is_another_library(folders):
    first = native.build()
    assert native.build() == first
    for name in ("operators.cc", "level.h"):
        with open(folders[0] / name, "a") as file:
            file.write("//")
        assert native.build() != first
        first = native.build()


def test_building_without_a_compiler(folders, monkeypatch, capsys):
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    assert native.main() == 0
    assert capsys.readouterr().out == "no g++: the plain MXNet graph will be used\n"


def test_all_users_of_a_folder_can_read_what_one_has_built(folders):
    """Whatever umask and compiler made of it: who cannot computes other bits."""
    before = os.umask(0o077)
    try:
        path = native.build()
    finally:
        os.umask(before)
    assert path.parent == folders[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_library_that_cannot_be_read_is_said_and_built_again(folders, monkeypatch, capsys):
    theirs, own = folders
    path = native.build()
    readable = lambda p, mode: p.exists() and theirs != p.parent and p != theirs  # noqa: E731
    monkeypatch.setattr(native.os, "access", readable)
    monkeypatch.setattr(native, "_loaded", None)
    native._say_what_cannot_be_read.cache_clear()
    assert native.load() is native.load() is False
    said = f"{path} cannot be read: using the plain MXNet graph, which has other bits; python -m "
    assert capsys.readouterr().err.count(said) == 1
    assert native.build() == own / path.name


def test_without_a_home(folders, monkeypatch):
    """As an unknown user of a container: there is the package's own folder, and no other."""
    package, own = folders
    monkeypatch.setattr(native.os, "access", lambda path, mode: path.exists() and path != package)
    assert native.build().parent == own
    shutil.rmtree(own)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(native.os.path, "expanduser", lambda path: path)
    assert native.build().parent == package
