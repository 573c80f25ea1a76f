"""The graph of a block is what the architecture says, and nothing overlaps."""

from dsonas_mx.plots import draw_block, draw_blocks
from dsonas_mx.plots.layout import Layout
from dsonas_mx.space.architecture import Architecture
from dsonas_mx.space.normal import INPUT, OPERATIONS, OUTPUT, SearchSpace

import numpy as np
import pytest
from looks import pixels, runs_off, texts
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve
from matplotlib.transforms import Affine2D

SHARE = SearchSpace()

LARGE = SearchSpace(levels=5, operations=OPERATIONS)

FULL = SearchSpace(scope="full", levels=2, operations=("sep3", "max"), blocks=(1, 3))

BLOCKS = {
    "complete": Architecture.complete(SHARE),
    "12": Architecture.random(SHARE, 1, connections=12),
    "25": Architecture.random(SHARE, 2, connections=25),
    "60": Architecture.random(SHARE, 3, connections=60),
    "empty": Architecture.from_lambdas(SHARE, np.zeros(124)),
    "two levels": Architecture.complete(SearchSpace(levels=2)),
    "one": Architecture.complete(SearchSpace(levels=1, operations=("max",))),
    "large": Architecture.random(LARGE, 4, connections=50),
    "large complete": Architecture.complete(LARGE),
}

each_block = pytest.mark.parametrize("architecture", BLOCKS.values(), ids=BLOCKS)


def gids(axes, artist):
    return sorted(patch.get_gid() for patch in axes.patches if isinstance(patch, artist))


def check_block(axes, architecture, structure):
    space = architecture.space
    live = architecture.live_nodes(structure)
    kept = zip(space.connections, architecture.kept[structure])
    assert gids(axes, FancyArrowPatch) == sorted(
        [connection.name for connection, keeps in kept if keeps]
        + [f"input=>{node}" for node in live if node.startswith("1.")]
        + ["shortcut"]
    )
    assert gids(axes, FancyBboxPatch) == sorted(
        [f"{'node' if node in live else 'gone'} {node}" for node in space.nodes]
        + [f"node {INPUT}", f"node {OUTPUT}"]
    )


@each_block
def test_a_block_has_an_arrow_a_connection_and_a_box_an_operation(architecture):
    figure = draw_block(architecture)
    (axes,) = figure.axes
    check_block(axes, architecture, 0)
    of = len(architecture.space.connections)
    assert f"{architecture.num_connections} of {of} connections kept" in texts(figure)


def points_of(arrow):
    """Points of the drawn line, close to each other, in inches."""
    fine = arrow._path_original.transformed(Affine2D().scale(500))  # flattened to a unit
    (corners,) = fine.to_polygons(closed_only=False)
    return Curve(corners / 500).interpolated(20).vertices


@each_block
def test_arrows_end_at_their_boxes_and_pass_no_other(architecture):
    (axes,) = draw_block(architecture).axes
    boxes = {
        patch.get_gid().split(" ")[1]: patch.get_path().get_extents()
        for patch in axes.patches
        if isinstance(patch, FancyBboxPatch)
    }
    for wire in Layout(architecture, 0).wires:
        (arrow,) = (patch for patch in axes.patches if patch.get_gid() == wire.name)
        points = points_of(arrow)
        (x0, y0), (x1, y1) = points[0], points[-1]
        source, target = boxes[wire.source], boxes[wire.target]
        assert x0 == pytest.approx(source.x1) and source.y0 < y0 < source.y1
        assert x1 == pytest.approx(target.x0) and target.y0 < y1 < target.y1
        for name, box in boxes.items():
            if name not in (wire.source, wire.target):
                inside = (points > box.min - 0.02).all(1) & (points < box.max + 0.02).all(1)
                assert not inside.any(), f"{wire.name} passes over {name}"


@each_block
def test_nothing_runs_off_the_page(architecture):
    assert not runs_off(pixels(draw_block(architecture)))


@each_block
def test_arrows_beside_each_other_are_apart(architecture):
    layout = Layout(architecture, 0)
    sides = {}
    for wire in layout.wires:
        first, last = wire.columns
        sides.setdefault(("from", wire.source), []).append(wire.heights[0])
        sides.setdefault(("to", wire.target), []).append(wire.heights[-1])
        for column, height in zip(range(first + 1, last), wire.heights[1:-1]):
            sides.setdefault(("past", column), []).append(height)
    for side, heights in sides.items():
        gaps = np.diff(np.sort(heights))
        assert (gaps > 0.085).all(), f"{side}: arrows are {gaps.min():.3f} inches apart"


def test_colours_are_those_of_the_sources():
    (axes,) = draw_block(BLOCKS["complete"]).axes
    colours = {patch.get_gid(): patch.get_edgecolor() for patch in axes.patches}
    for source in (INPUT, "1.sep3", "1.sep5", "1.max", "1.avg"):
        assert colours[f"{source}->2.max"] == colours[f"node {source}"]
    assert len({colours[f"{node}->output"] for node in SHARE.nodes}) == 4


def test_the_full_scope_has_a_graph_a_block():
    empty = [False] * len(FULL.connections)
    architecture = Architecture(
        FULL,
        (*Architecture.random(FULL, 5, connections=[4, 8, 3, 6]).kept[:3], empty),
        ((False, True),),
    )
    figure = draw_blocks(architecture)
    names = ["stage1.block1", "stage2.block1", "stage2.block2", "stage2.block3"]
    assert [axes.get_gid() for axes in figure.axes] == names
    for structure, axes in enumerate(figure.axes):
        check_block(axes, architecture, structure)
    for text in (
        "15 of 40 connections kept in 4 blocks",
        "reduction 1: 3×3",
        "Stage 2: 11 of 30",
        "block 3: 0 of 10",
    ):
        assert text in texts(figure)
    one = draw_block(architecture, structure=2)
    check_block(one.axes[0], architecture, 2)
    assert "Stage 2, block 2: 3 of 10 connections kept" in texts(one)


@pytest.mark.parametrize("space", [SearchSpace(scope="full"), SearchSpace.imagenet(scope="full")])
def test_blocks_of_the_full_scope_stay_within_the_page_and_apart(space):
    figure = draw_blocks(Architecture.random(space, 6, connections=9))
    assert len(figure.axes) == space.num_blocks
    places = [axes.get_position() for axes in figure.axes]
    for position, place in enumerate(places):
        assert place.min.min() > 0 and place.max.max() < 1
        assert not any(place.overlaps(other) for other in places[:position])
