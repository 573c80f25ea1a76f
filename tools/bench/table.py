"""The table of `tools/benchmark.py all`."""

from __future__ import annotations

from typing import Any, Dict

from dsonas_mx.io.markdown import markdown_table


def table(results: Dict[str, Any]) -> str:
    """The figures of all benchmarks in Markdown."""
    step_, cifar, imagenet, shrunk, fed = results.values()
    rows = [
        ("weight step + λ step, over the original's graph", f"{step_['ratio']:.3f}"),
        ("operators of the graph", f"{step_['ours_nodes']} instead of {step_['plain_nodes']}"),
        ("largest relative difference from it", f"{step_['max_difference']:.1e}"),
    ]
    for name, size in (("CIFAR-10", cifar), ("ImageNet", imagenet)):
        rows.append(
            (
                f"memory of the {name} supernet, {size['batch_size']} samples a device",
                f"{size['plain_mb']:.0f} MB; at least {size['least_mb']:.0f} MB",
            )
        )
    rows.append(("time of a step with the least memory", f"{cifar['time_overhead']:.2f}×"))
    for name, key in (
        ("time of a step", "ratio"),
        ("operations", "operations"),
        ("multiply-adds", "multiply_adds"),
    ):
        shares = ", ".join(f"{share} %: {value:.2f}" for share, value in shrunk[key].items())
        rows.append((f"{name} by connections left", shares))
    rows.append(
        (
            "samples a second that a thread augments; that a training step takes",
            f"{fed['samples_s']:,.0f}; {fed['step_samples_s']:,.0f} (width {fed['width']})",
        )
    )
    heading = "`python tools/benchmark.py all`, on 2 CPU cores with the C++ operators"
    return markdown_table([(heading, ""), *rows])
