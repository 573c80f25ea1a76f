"""The report page: complete in itself, and alive in a browser where there is one."""

import json
import re
import shutil
import subprocess

from dsonas_mx import Architecture, SearchSpace
from dsonas_mx.cost import count as cost
from dsonas_mx.cost.network import count_network, parts_of
from dsonas_mx.cost.traced import count_symbol
from dsonas_mx.report import page, write_report
from dsonas_mx.space.mobile import OPERATIONS, MobileSpace
from dsonas_mx.space.mobile_architecture import MobileArchitecture

import mxnet as mx
import pytest

from symbols.segmentation import Features

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def run(tmp_path, tiny_space, some_architecture):
    folder = tmp_path / "runs" / "search"
    folder.mkdir(parents=True)
    found = some_architecture(tiny_space())
    found.save(folder / "architecture.json")
    columns = [c.name for c in found.space.connections] + ["reduction1.1x1", "reduction1.3x3"]
    lines = ["epoch," + ",".join(columns), "0" + ",1" * len(columns)]
    kept = list(found.kept[0]) + [False, True]
    lines.append("1," + ",".join("0.25" if live else "0.0" for live in kept))
    (folder / "lambdas.csv").write_text("\n".join(lines) + "\n")
    (folder / "metrics.csv").write_text(
        "epoch,learning_rate,train_loss,train_error,test_loss,test_error\n"
        "0,0.1,1.5,0.5,1.6,0.55\n1,0.05,1.1,0.4,1.2,0.45\n"
    )
    (folder / "result.json").write_text('{"test_error": 0.4512, "parameters": 1234}')
    arguments = {
        "options": {"lr": 0.1, "note": "<b>&"},
        "environment": {"python": "3.11", "command": ["train_cifar.py", "--lr", "0.1"]},
    }
    (folder / "args.json").write_text(json.dumps(arguments))
    (folder / "data.json").write_text('{"classes": ["ant", "<bee>"]}')  # of own images
    return folder, found


def test_the_page_has_everything_and_needs_nothing(run, tmp_path, script):
    folder, found = run
    status, out, err = script("tools/report.py", folder, "-o", tmp_path / "report.html")
    assert (status, out, err) == (0, f"{tmp_path / 'report.html'}\n", "")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "45.12%" in text and "train_cifar.py --lr 0.1" in text
    assert f"{cost.count(found).parameters:,}" in text
    assert "&lt;b&gt;&amp;" in text and "<b>&" not in text
    assert "Classes: ant, &lt;bee&gt;" in text
    assert "2.74 ± 0.07" in text  # of table 1
    assert text.count("data:image/svg+xml;base64,") == 2
    assert text.count("<section") == text.count("</section>") == 2
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)
    write_report([folder], tmp_path / "again.html")
    write_report([folder], tmp_path / "once_more.html")
    first, second = (tmp_path / name for name in ("again.html", "once_more.html"))
    assert first.read_bytes() == second.read_bytes()


def test_searches_that_differ_in_their_seeds(run, tmp_path, tiny_space):
    first, found = run
    others = {"seed": first.with_name("seed"), "gamma": first.with_name("gamma")}
    Architecture(found.space, found.kept, found.reductions, {"seed": 0, "gamma": 1}).save(
        first / "architecture.json"
    )
    for name, folder in others.items():
        shutil.copytree(first, folder)
        origin = {"seed": 0, "gamma": 1, name: 5}
        Architecture(found.space, found.kept, found.reductions, origin).save(
            folder / "architecture.json"
        )
    text = page.alike([first, *others.values()], ["a", "b", "c"])
    assert len(text) == 1 and "<td>a, b</td><td>2</td><td>1.00 (" in text[0]
    assert text[0].count("data:image/svg") == 1
    write_report([first, *others.values()], tmp_path / "report.html")
    assert "Agreement over seeds" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.alike([first, others["gamma"]], ["a", "c"]) == []


def test_blocks_add_up(tiny_space, some_architecture):
    for scope in ("share", "full"):
        found = some_architecture(tiny_space(scope=scope))
        parts = parts_of(found)
        assert list(parts) == [
            "stem",
            "stage 1, block 1",
            "reduction 1",
            "stage 2, block 1",
            "classifier",
        ]
        total = cost.total(parts.values())
        assert total.multiply_adds == cost.count(found).multiply_adds
        assert total.parameters == cost.count(found).parameters


def test_blocks_of_a_backbone_add_up(some_architecture):
    """To what its operators cost, with the maps of the last stage twice as large."""
    space = SearchSpace.imagenet(
        levels=2, operations=("sep3", "max"), blocks=(1, 2, 1), width=4, image_size=33
    )
    found = some_architecture(space)
    maps = Features(found)(mx.sym.Variable("data"))
    counted = count_symbol(mx.sym.Group(list(maps)), (1, 3, 33, 33))
    total = cost.total(parts_of(found, dilated=True).values())
    assert (total.parameters, total.multiply_adds) == (counted.parameters, counted.multiply_adds)
    assert total.multiply_adds > cost.count(found).multiply_adds


def test_several_runs_beside_each_other(run, tmp_path):
    folder, _ = run
    other = tmp_path / "runs" / "other"
    other.mkdir()
    Architecture.load(folder / "architecture.json").save(other / "architecture.json")
    text = write_report([folder, other], tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("<section") == 3 and "<h2>All runs</h2>" in text
    assert "<th>test error</th>" in text and "mean IoU" not in text
    assert page.unique_names([folder, tmp_path / "x" / "search"]) == ["runs/search", "x/search"]


@pytest.fixture
def mobile(tmp_path):
    """A search in the mobile setting: one operation in each of six blocks is left."""
    space = MobileSpace.skeleton("mobile-gpu", 0.1, (1,) * 6, image_size=32, num_classes=3)
    folder = tmp_path / "mobile"
    folder.mkdir()
    found = MobileArchitecture.of(space, [[name] for name in OPERATIONS])
    found.save(folder / "architecture.json")
    names = [f"stage{stage}.block1:{name}->output" for stage in range(1, 7) for name in OPERATIONS]
    last = ["0.0454" if live else "0" for row in found.kept for live in row]
    lines = ["epoch," + ",".join(names), "0" + ",1" * 36, ",".join(["1", *last])]
    (folder / "lambdas.csv").write_text("\n".join(lines) + "\n")
    return folder, found


def test_a_search_of_the_mobile_setting(mobile, run, tmp_path, script):
    """One map of operation by block; the blocks add up to the network."""
    folder, found = mobile
    path = tmp_path / "new" / "report.html"
    status, _, err = script("tools/report.py", folder, run[0], "-o", path, "--tables", "none")
    assert (status, err) == (0, "")
    text = path.read_text(encoding="utf-8")
    parts = parts_of(found)
    assert cost.total(parts.values()) == count_network(found)
    assert all(f"{part.multiply_adds:,}" in text for part in parts.values())
    assert "<td>36</td>" in text and "stage 6, block 1: k7e6" in text
    data = json.loads(re.search(r'application/json">(.*?)</script>', text)[1])
    assert list(data["groups"]) == ["blocks"]
    assert data["groups"]["blocks"][0] == ["k3e3", "1.1", [1.0, 0.0454]]  # the page rounds to 0.05
    assert data["groups"]["blocks"][7] == ["k5e3", "2.1", [1.0, 0.0454]]


def test_what_is_taken_for_what_is_in_the_page(run):
    folder, _ = run
    assert page.classified(folder) == []
    (folder / "mistakes.png").write_bytes(b"content")
    (folder / "confusion.png").write_bytes(b"content")
    text = page.section(folder, "run")
    assert text.index("What is taken for what") < text.index("The most confident mistakes")
    assert text.count("data:image/png;base64,Y29udGVudA==") == 2


def test_a_training_in_segmentation(tmp_path, some_architecture):
    """Its backbone with maps as large as they are there, the heads, mean IoU, test images."""
    space = SearchSpace.imagenet(
        levels=2, operations=("sep3", "max"), blocks=(1, 1), width=4, image_size=33
    )
    found = some_architecture(space)
    folder = tmp_path / "train"
    (folder / "pictures").mkdir(parents=True)
    found.save(folder / "architecture.json")
    for number in range(6):
        (folder / "pictures" / f"val{number}.png").write_bytes(b"content %d" % number)
    (folder / "args.json").write_text(json.dumps({"options": {"crop": 33}}))
    backbone = cost.total(parts_of(found, dilated=True).values()).multiply_adds
    result = {"mean_iou": 0.25, "class_iou": {"leaf": 0.5, "sky": None}}
    (folder / "result.json").write_text(json.dumps({**result, "multiply_adds": backbone + 777}))
    (folder / "metrics.csv").write_text(
        "epoch,stage,learning_rate,train_loss,train_accuracy,test_accuracy,test_miou\n"
        "0,1,0.1,1.5,0.5,,\n1,2,0.05,1.1,0.6,0.4,0.25\n"
    )
    text = write_report([folder], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<span>heads</span>" in text and "<span>777</span>" in text
    assert "<td>mean IoU</td><td>25.00%</td>" in text
    assert "<td>class IoU leaf</td><td>50.00%</td>" in text
    assert "<td>class IoU sky</td><td>–</td>" in text
    assert "without the heads, images of 33×33" in text
    assert text.count("data:image/png;base64,") == 4


def test_what_is_no_run(tmp_path, script):
    status, _, err = script("tools/report.py", tmp_path, "-o", tmp_path / "report.html")
    assert status == 2
    assert f"{tmp_path} is no run: it has no architecture.json" in err
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    "name, content",
    [
        ("args.json", "[]"),
        ("args.json", '{"options": null}'),
        ("args.json", '{"environment": {"command": 7}}'),
        ("data.json", "3"),
        ("result.json", '"x"'),
        ("result.json", '{"multiply_adds": "x"}'),
    ],
)
def test_a_damaged_file_of_a_run_is_named(run, tmp_path, name, content):
    folder, _ = run
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name}: .* must be"):
        write_report([folder], tmp_path / "r.html")


@pytest.mark.skipif(BROWSER is None, reason="no chromium here")
def test_in_a_browser(run, tmp_path):
    """The slider shows λ of its epoch; nothing is wider than a phone."""
    folder, found = run
    path = write_report([folder], tmp_path / "report.html")
    probe = """<script>
    const slider = document.querySelector(".lambdas input");
    const read = () => document.querySelector(".live").textContent;
    const last = read();
    slider.value = 0; slider.dispatchEvent(new Event("input"));
    const wide = document.documentElement.scrollWidth > innerWidth;
    document.title = [last, read(), wide].join(";");
    </script></body>"""
    text = path.read_text(encoding="utf-8").replace("</body>", probe)
    path.write_text(text, encoding="utf-8")
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    total = len(found.space.connections)
    live = found.num_connections
    title = re.search(r"<title>(.*?)</title>", done.stdout)[1]
    assert title == f"{live} of {total} above zero;{total} of {total} above zero;false"
