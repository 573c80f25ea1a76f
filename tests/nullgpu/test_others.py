"""Searches and trainings on ImageNet and on segmentation data on the null GPU."""

import json

from dsonas_mx import Architecture
from dsonas_mx.space.mobile import MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture, load_architecture
from dsonas_mx.space.normal import SearchSpace

import pytest

IMAGENET = ["--image-size", 32, "--num-classes", 3, "--num-samples", 60]
TINY = ["--levels", 2, "--width", 4, "--blocks", "1", "--operations", "sep3,max"]
MOBILE = ["--width-multiplier", 0.1, "--blocks", "1"]


@pytest.fixture(scope="module")
def records(tmp_path_factory, striped_records):
    """60 images to train and 15 to test."""
    return striped_records(tmp_path_factory.mktemp("records"), {"train": 60, "val": 15}, width=40)


@pytest.fixture
def search(run, records, tmp_path):
    """`search(*words)`: a search on `records`; what it found, which is less than everything."""

    def searched(*words):
        words = [*IMAGENET, "--data-dir", records, "--batch-size", 6, *words]
        epochs = ["--pretrain-epochs", 1, "--num-epochs", 2]
        run("train/search_imagenet.py", *words, *epochs, "--save-dir", tmp_path / "run")
        for name in ("lambdas.csv", "gammas.csv", "weights.lst", "pretrained.params"):
            assert (tmp_path / "run" / name).is_file()
        found = load_architecture(tmp_path / "run/architecture.json")
        assert 0 < found.num_connections < found.space.num_connections
        return found

    return searched


@pytest.mark.parametrize("gpus, mirror", [("0,1", "auto"), ("1", "off"), ("0,1,2", "deep")])
def test_imagenet(search, gpus, mirror):
    """The paper's budget: latency, measured in each epoch on the device."""
    search(*TINY, "--gpus", gpus, "--mirror", mirror)


@pytest.mark.parametrize("mirror", ["off", "auto", "deep"])
def test_imagenet_in_float16(search, mirror):
    search(*TINY, "--gpus", "0,1", "--mirror", mirror, "--dtype", "float16")


@pytest.mark.parametrize(
    "space, mirror, dtype",
    [
        ("mobile-cpu", "auto", "float32"),
        ("mobile-cpu", "off", "float16"),
        ("mobile-gpu", "deep", "float32"),
        ("mobile-gpu", "auto", "float16"),
    ],
)
def test_mobile(search, space, mirror, dtype):
    words = ["--space", space, *MOBILE, "--gpus", "0,1", "--mirror", mirror, "--dtype", dtype]
    search(*words)


@pytest.fixture
def train(run, records, tmp_path):
    """`train(architecture, *words)`: a training on `records`, to a network that is exported."""

    def trained(architecture, *words):
        architecture.save(tmp_path / "found.json")
        words = [*IMAGENET, "--data-dir", records, "--batch-size", 6, "--num-epochs", 1, *words]
        words += [
            "--auxiliary",
            0,
            "--architecture",
            tmp_path / "found.json",
            "--save-dir",
            tmp_path / "run",
        ]
        run("train/train_imagenet.py", *words)
        assert (tmp_path / "run/model-symbol.json").is_file()
        assert json.loads((tmp_path / "run/result.json").read_text())["parameters"] > 0

    return trained


@pytest.mark.parametrize(
    "gpus, mirror, dtype",
    [("0,1,2", "off", "float32"), ("1", "auto", "float16"), ("0,1", "deep", "float16")],
)
def test_training_on_imagenet(train, gpus, mirror, dtype):
    space = SearchSpace.imagenet(
        levels=2, operations=("sep3", "max"), blocks=(1,) * 4, width=4, num_classes=3, image_size=32
    )
    words = ["--gpus", gpus, "--mirror", mirror, "--dtype", dtype, "--width", 4]
    train(Architecture.complete(space), *words)


@pytest.mark.parametrize("name", ["mobile-cpu", "mobile-gpu"])
def test_training_of_mobile_networks(train, name):
    space = MobileSpace.skeleton(name, 0.1, (1,) * 6, num_classes=3, image_size=32)
    network = MobileArchitecture.of(space, [["k5e3"]] * 6)
    train(network, "--gpus", "0,1", "--dtype", "float16")


def test_segmentation(run, scenes_folder, tmp_path):
    """Searches, trainings from what they have learned, and a test by itself."""
    data = ["--data-dir", scenes_folder.parent, "--crop", 24, "--batch-size", 3]
    space = ["--data", "garden", "--blocks", 1, "--levels", 2, "--operations", "sep3,max"]
    space += ["--width", 4]

    def search(folder, gpus, *words):
        words = [*data, *space, *words, "--gpus", gpus, "--save-dir", folder]
        run("train/search_voc.py", *words)
        assert Architecture.load(folder / "architecture.json").num_connections

    found = tmp_path / "search"
    words = ["--split", "1:1", "--pretrain-epochs", 1, "--num-epochs", 2, "--shrink-every", 1]
    search(found, "0,1,2", *words)
    words = ["--split", "none", "--pretrained", found, "--pretrain-epochs", 0, "--num-epochs", 1]
    search(tmp_path / "one", "1", *words, "--mirror", "deep")
    search(tmp_path / "two", "0,1", *words, "--mirror", "off")
    words = [*data, "--architecture", found / "architecture.json", "--stages", "garden:1:0.05"]
    words += ["--backbone", found]
    for gpus, mirror in (("1", "off"), ("0,1", "auto"), ("0,1,2", "deep")):
        trained = tmp_path / f"train{gpus}"
        more = ["--gpus", gpus, "--mirror", mirror, "--save-dir", trained]
        run("train/train_voc.py", *words, *more)
        assert (trained / "model-symbol.json").is_file()
    assert "mIoU" in run("train/train_voc.py", "--eval", trained, "--gpus", "1")
