"""Models of a few hundred bytes that onnxruntime runs."""

from pathlib import Path

from onnx import TensorProto, helper, save


def write_scale(path: Path, factor: float = 2.0) -> Path:
    """Write a model that multiplies rows of four numbers, its input `x`, and gives them as `y`."""
    rows = [None, 4]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, rows)],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )
    return _write(path, graph)


def write_join(path: Path) -> Path:
    """Write a model with the inputs `number` (an integer) and `words` (texts), which gives both back."""
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    words = helper.make_tensor_value_info("words", TensorProto.STRING, [None])
    outputs = [
        helper.make_tensor_value_info("same_number", TensorProto.INT64, []),
        helper.make_tensor_value_info("same_words", TensorProto.STRING, [None]),
    ]
    nodes = [
        helper.make_node("Identity", ["number"], ["same_number"]),
        helper.make_node("Identity", ["words"], ["same_words"]),
    ]
    return _write(path, helper.make_graph(nodes, "join", [number, words], outputs))


def _write(path: Path, graph: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of versions that every onnxruntime of the last years reads.
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
