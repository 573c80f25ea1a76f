"""Joined maps whose gradient MKLDNN can divide again, whatever their numbers of channels.

MKLDNN keeps a map in blocks of 8 or 16 channels where these divide it. The gradient of joined maps
that is in blocks cannot be divided between maps that are not, such as 4 and 4, or 36 and 36: that
ends the process. A slice, which MKLDNN does not compute, gives it on without blocks.
"""

import json
from typing import Any, Dict, List, Mapping, Sequence

import mxnet as mx

from .marking import behind

FEWEST, MOST = 8, 16  # channels of a block, by the processor


def dividable(symbol: mx.sym.Symbol, shapes: Mapping[str, Sequence[int]]) -> mx.sym.Symbol:
    """The same function, in which a slice of all of them follows joined maps where it has to.

    Parameters
    ----------
    symbol : Symbol
        Of a training on a CPU.
    shapes : mapping
        Of its inputs.
    """
    graph = json.loads(symbol.tojson(remove_amp_cast=False))
    old: List[Dict[str, Any]] = graph["nodes"]
    concats = [node for node in old if node["op"] == "Concat"]
    joins = [node for node in concats if node["attrs"].get("dim", "1") == "1"]
    if not joins:
        return symbol
    # By the place of a map, for names may be those of several.
    joined = [source for node in joins for source in node["inputs"]]
    maps = mx.sym.load_json(json.dumps({**graph, "heads": joined}))
    given = {name: shapes[name] for name in maps.list_arguments() if name in shapes}
    known = iter(maps.infer_shape(**given)[1])
    breaks = {id(node): _breaks([next(known) for _ in node["inputs"]]) for node in joins}
    every = {"axis": "1", "begin": "0", "end": "None"}
    slices = {
        index: {"op": "slice_axis", "name": f"{node['name']}_all", "attrs": every}
        for index, node in enumerate(old)
        if breaks.get(id(node))
    }
    return mx.sym.load_json(json.dumps(behind(graph, slices)))


def _breaks(maps: Sequence[Sequence[int]]) -> bool:
    """Whether joined maps of these shapes may be in blocks, but not each of them."""
    channels = [shape[1] for shape in maps]
    return (
        len(maps[0]) == 4
        and sum(channels) % FEWEST == 0
        and any(count % MOST for count in channels)
    )
