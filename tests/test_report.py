"""The report page: complete in itself, and alive in a browser where there is one."""

import json
import re
import shutil
import subprocess

from dsonas_mx import Architecture, cost
from dsonas_mx.report import page, write_report

import pytest

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
    return folder, found


def test_the_page_has_everything_and_needs_nothing(run, tmp_path, script):
    folder, found = run
    status, out, err = script("tools/report.py", folder, "-o", tmp_path / "report.html")
    assert (status, out, err) == (0, f"{tmp_path / 'report.html'}\n", "")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "45.12%" in text and "train_cifar.py --lr 0.1" in text
    assert f"{cost.count(found).parameters:,}" in text
    assert "&lt;b&gt;&amp;" in text and "<b>&" not in text
    assert "2.74 ± 0.07" in text  # of table 1
    assert text.count("data:image/svg+xml;base64,") == 2
    assert text.count("<section") == text.count("</section>") == 2
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)
    write_report([folder], tmp_path / "again.html")
    write_report([folder], tmp_path / "once_more.html")
    first, second = (tmp_path / name for name in ("again.html", "once_more.html"))
    assert first.read_bytes() == second.read_bytes()


def test_blocks_add_up(tiny_space, some_architecture):
    for scope in ("share", "full"):
        found = some_architecture(tiny_space(scope=scope))
        parts = page.by_block(found)
        assert list(parts) == [
            "stem",
            "stage 1, block 1",
            "reduction 1",
            "stage 2, block 1",
            "classifier",
        ]
        assert sum(parts.values()) == cost.count(found).multiply_adds


def test_several_runs_beside_each_other(run, tmp_path):
    folder, _ = run
    other = tmp_path / "runs" / "other"
    other.mkdir()
    Architecture.load(folder / "architecture.json").save(other / "architecture.json")
    text = write_report([folder, other], tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("<section") == 3 and "<h2>All runs</h2>" in text
    assert page.unique_names([folder, tmp_path / "x" / "search"]) == ["runs/search", "x/search"]


def test_what_is_no_run(tmp_path, script):
    status, _, err = script("tools/report.py", tmp_path, "-o", tmp_path / "report.html")
    assert status == 2
    assert f"{tmp_path} is no run: it has no architecture.json" in err
    assert not (tmp_path / "report.html").exists()


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
