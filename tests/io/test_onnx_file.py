"""ONNX files that name other files are not given to ONNX Runtime."""

from dsonas_mx.io.onnx_file import check_onnx

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")


@pytest.fixture
def model():
    def tensor(name):
        return onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), name)

    inside = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["y"], value=tensor("deep"))], "inside", [], []
    )
    nodes = [
        onnx.helper.make_node("Constant", [], ["c"], value=tensor("c")),
        onnx.helper.make_node("If", ["data"], ["d"], then_branch=inside, else_branch=inside),
    ]
    graph = onnx.helper.make_graph(nodes, "net", [], [], [tensor("weight")])
    return onnx.helper.make_model(graph)


def outside(tensor):
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


PLACES = {
    "initializer": lambda model: model.graph.initializer[0],
    "node": lambda model: model.graph.node[0].attribute[0].t,
    "subgraph": lambda model: model.graph.node[1].attribute[1].g.node[0].attribute[0].t,
}


def test_a_whole_one_passes(model, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    check_onnx(path)


@pytest.mark.parametrize("place", PLACES)
def test_values_elsewhere_are_refused(model, tmp_path, place):
    outside(PLACES[place](model))
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="net.onnx: it has values in other files"):
        check_onnx(path)


def test_what_is_no_onnx_file(model, tmp_path):
    path, content = tmp_path / "net.onnx", model.SerializeToString()
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        try:
            check_onnx(path)  # a cut between two fields is seen by who reads them
        except ValueError as error:
            assert "net.onnx: not an ONNX file, or damaged" in str(error)
    path.write_bytes(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
    with pytest.raises(ValueError, match="not an ONNX file"):
        check_onnx(path)
