"""The serving form as an ONNX graph, written node by node.

No converter takes a free length or the recurrent network, and the graph is small. It
is the same function as ``scorer.make_scorer``: items and lengths in, scores and items
out, any number of sessions of any length.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tron_jax.data.packing import Position
from tron_jax.errors import UserError
from tron_jax.models import repeats
from tron_jax.models.sasrec import LAYER_NORM_EPSILON
from tron_jax.serving.scorer import Weights
from tron_jax.serving.tables import Int8Table, ItemTable

OPSET = 18
IR_VERSION = 9  # of the file; what onnxruntime 1.16 and later read
LARGEST = (
    1 << 30
)  # bytes; more weights go to a file beside it, as protobuf ends at 2 GB
LOWEST = float(np.finfo(np.float32).min)
MISSING = "onnx is not installed; pip install 'tron-jax[onnx]' has it"


class _Graph:
    """Nodes and constants, as they are added."""

    def __init__(self, onnx: Any):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any, name: str = "") -> str:
        """Adds an array and returns its name."""
        name = name or f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def bfloat16(self, value: np.ndarray) -> str:
        """Adds an array of bfloat16, of which NumPy knows little; returns its name."""
        name = f"constant_{len(self.constants)}"
        kind = self.onnx.TensorProto.BFLOAT16
        content = np.ascontiguousarray(value).tobytes()
        self.constants.append(
            self.onnx.helper.make_tensor(name, kind, value.shape, content, raw=True)
        )
        return name

    def add(self, kind: str, *inputs: str, out: int = 1, **attributes: Any) -> Any:
        """Adds a node and returns the name of its output, or of its outputs."""
        names = [f"{kind}_{len(self.nodes)}_{n}" for n in range(out)]
        node = self.onnx.helper.make_node(kind, [*inputs], names, **attributes)
        self.nodes.append(node)
        return names[0] if out == 1 else names


class _Table:
    """An item table of any kind among the nodes."""

    def __init__(self, graph: _Graph, table: ItemTable):
        self.graph = graph
        self.factors: tuple[str, ...] = ()
        self.is_float32 = False
        if isinstance(table, Int8Table):
            self.values = graph.constant(table.values, np.int8, "table")
            rows = graph.constant(table.rows, np.float32)
            self.factors = rows, graph.constant(table.columns, np.float32)
        elif table.dtype == jnp.bfloat16:
            self.values = graph.bfloat16(table)
        else:
            self.values = graph.constant(table, np.float32, "table")
            self.is_float32 = True

    def rows(self, ids: str) -> str:
        """Adds the rows of some items."""
        graph = self.graph
        values = self._float32(graph.add("Gather", self.values, ids))
        if not self.factors:
            return values
        rows, columns = self.factors
        rows = graph.add("Gather", rows, ids)
        last = graph.constant([-1], np.int64)
        values = graph.add("Mul", values, graph.add("Unsqueeze", rows, last))
        return graph.add("Mul", values, columns)

    def scores(self, hidden: str) -> str:
        """Adds the scores of all rows."""
        graph = self.graph
        if not self.factors:
            return graph.add("Gemm", hidden, self._float32(self.values), transB=1)
        rows, columns = self.factors
        hidden = graph.add("Mul", hidden, columns)
        scores = graph.add("Gemm", hidden, self._float32(self.values), transB=1)
        return graph.add("Mul", scores, rows)

    def _float32(self, values: str) -> str:
        return values if self.is_float32 else self.graph.add("Cast", values, to=1)


def save(
    path: Path,
    weights: Weights,
    *,
    model: str,
    num_heads: int,
    k: int,
    max_session_length: int,
    position: Position,
    cosine_scale: float | None = None,
) -> None:
    """Writes the graph with its weights.

    Args:
      path: of the file; of weights beyond a gigabyte, another lies beside it, named
        ``<path>.data``.
      weights: NumPy arrays.
      model: ``sasrec`` or ``gru4rec``.
      num_heads: of attention.
      k: items to find, at most num_items.
      max_session_length: the most positions.
      position: numbering of the positions.
      cosine_scale: see ``models.cosine``; None = hidden states are of any length.

    Raises:
      UserError: where onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(MISSING) from error
    graph = _Graph(onnx)
    table = _Table(graph, weights.table)
    params = weights.params["params"]
    if model == "sasrec":
        last = _sasrec(graph, params, table, num_heads, max_session_length, position)
    else:
        last = _gru4rec(graph, params, table)
    if cosine_scale is not None:
        unit = graph.add("LpNormalization", last, axis=-1, p=2)
        last = graph.add("Mul", unit, graph.constant(cosine_scale, np.float32))
    scores = table.scores(last)
    if repeats.PARAMS in weights.params:
        scores = _corrected(graph, scores, weights.params[repeats.PARAMS])
    _best(graph, scores, k)
    values = onnx.helper.make_tensor_value_info
    integers, floats = onnx.TensorProto.INT32, onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        graph.nodes,
        "tron_jax",
        [
            values("items", integers, ["sessions", "length"]),
            values("lengths", integers, ["sessions"]),
        ],
        [
            values("scores", floats, ["sessions", k]),
            values("best", integers, ["sessions", k]),
        ],
        graph.constants,
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    whole = onnx.helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)
    large = sum(array.nbytes for array in jax.tree.leaves(weights.table)) > LARGEST
    onnx.save_model(
        whole,
        str(path),
        save_as_external_data=large,
        location=f"{path.name}.data" if large else None,
    )


def _dense(graph: _Graph, x: str, layer: Any) -> str:
    kernel = graph.constant(layer["kernel"], np.float32)
    bias = graph.constant(layer["bias"], np.float32)
    return graph.add("Add", graph.add("MatMul", x, kernel), bias)


def _norm(graph: _Graph, x: str, layer: Any) -> str:
    scale = graph.constant(layer["scale"], np.float32)
    bias = graph.constant(layer["bias"], np.float32)
    return graph.add(
        "LayerNormalization", x, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON
    )


def _sasrec(
    graph: _Graph,
    params: Any,
    table: _Table,
    num_heads: int,
    longest: int,
    position: Position,
) -> str:
    """Adds the transformer; returns the hidden states [sessions, hidden]."""
    width = params["positions"].shape[1]
    place = _places(graph)
    x = table.rows("items")
    x = graph.add("Mul", x, graph.constant(math.sqrt(width), np.float32))
    positions = graph.constant(params["positions"], np.float32, "positions")
    number = place
    if position == "from_end":
        longest_ = graph.constant(longest, np.int32)
        left = graph.add("Sub", longest_, "lengths")
        column = graph.add("Unsqueeze", left, graph.constant([1], np.int64))
        number = graph.add("Add", place, column)
    bounds = [graph.constant(bound, np.int32) for bound in (0, longest - 1)]
    number = graph.add("Clip", number, *bounds)
    x = graph.add("Add", x, graph.add("Gather", positions, number))
    column = graph.add("Unsqueeze", place, graph.constant([1], np.int64))
    before = graph.add("LessOrEqual", place, column)
    layers = sum(name.startswith("attention_norm_") for name in params)
    for layer in range(layers):
        normed = _norm(graph, x, params[f"attention_norm_{layer}"])
        attention = params[f"attention_{layer}"]
        mixed = _attention(graph, normed, attention, before, num_heads, width)
        x = graph.add("Add", x, mixed)
        normed = _norm(graph, x, params[f"feedforward_norm_{layer}"])
        feedforward = params[f"feedforward_{layer}"]
        inside = graph.add("Relu", _dense(graph, normed, feedforward["in"]))
        x = graph.add("Add", x, _dense(graph, inside, feedforward["out"]))
    x = _norm(graph, x, params["final_norm"])
    one = graph.constant(1, np.int32)
    index = graph.add("Cast", graph.add("Sub", "lengths", one), to=7)  # int64
    index = graph.add("Unsqueeze", index, graph.constant([1], np.int64))
    return graph.add("GatherND", x, index, batch_dims=1)


def _places(graph: _Graph) -> str:
    """Adds [T] int32 0, 1, 2 and so on."""
    shape = graph.add("Shape", "items", start=1, end=2)
    length = graph.add("Squeeze", shape, graph.constant([0], np.int64))
    zero, one = (graph.constant(value, np.int64) for value in (0, 1))
    return graph.add("Cast", graph.add("Range", zero, length, one), to=6)  # int32


def _attention(
    graph: _Graph, x: str, layer: Any, before: str, num_heads: int, width: int
) -> str:
    of_head = width // num_heads
    shape = graph.constant([0, 0, num_heads, of_head], np.int64)  # 0 = as it is
    parts = graph.add(
        "Split", _dense(graph, x, layer["qkv"]), out=3, axis=-1, num_outputs=3
    )
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", part, shape), perm=[0, 2, 1, 3])
        for part in parts
    )
    query = graph.add("Div", query, graph.constant(math.sqrt(of_head), np.float32))
    key = graph.add("Transpose", key, perm=[0, 1, 3, 2])
    lowest = graph.constant(LOWEST, np.float32)
    scores = graph.add("Where", before, graph.add("MatMul", query, key), lowest)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    mixed = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    whole = graph.constant([0, 0, width], np.int64)
    return _dense(graph, graph.add("Reshape", mixed, whole), layer["out"])


def _gru4rec(graph: _Graph, params: Any, table: _Table) -> str:
    """Adds the recurrent network; returns hidden states that end in a 1."""
    size = params["state"]["kernel"].shape[0]
    x = table.rows("items")
    zero, end, axis = (graph.constant([v], np.int64) for v in (0, size, 2))
    x = graph.add("Slice", x, zero, end, axis)  # without the output bias
    x = graph.add("Transpose", x, perm=[1, 0, 2])
    kernels = [_gates(params[name]["kernel"]) for name in ("inputs", "state")]
    biases = [_gates(params[name]["bias"]) for name in ("inputs", "state")]
    arrays = [kernel.T[None] for kernel in kernels] + [np.concatenate(biases)[None]]
    weights = [graph.constant(array, np.float32) for array in arrays]
    _, last = graph.add(
        "GRU", x, *weights, "lengths", out=2, hidden_size=size, linear_before_reset=1
    )
    last = graph.add("Squeeze", last, graph.constant([0], np.int64))
    column = graph.add("Unsqueeze", "lengths", graph.constant([1], np.int64))
    nothing = graph.add("Mul", column, graph.constant(0, np.int32))
    one = graph.add("Add", nothing, graph.constant(1, np.int32))
    return graph.add("Concat", last, graph.add("Cast", one, to=1), axis=1)  # float32


def _gates(of_all: np.ndarray) -> np.ndarray:
    """Columns of reset, update and new in ONNX's order: update, reset, new."""
    reset, update, new = np.split(np.asarray(of_all), 3, axis=-1)
    return np.concatenate([update, reset, new], axis=-1)


def _corrected(graph: _Graph, scores: str, weights: Any) -> str:
    """Adds corrections to the scores of the last clicks' items, see ``repeats``."""
    last, row = (graph.constant([axis], np.int64) for axis in (2, 1))
    back = graph.constant(np.arange(repeats.RECENT)[None] + 1, np.int64)
    lengths = graph.add("Unsqueeze", graph.add("Cast", "lengths", to=7), row)
    place = graph.add("Sub", lengths, back)
    zero = graph.constant(0, np.int64)
    clicks = graph.add("Cast", "items", to=7)
    clicks = graph.add("GatherElements", clicks, graph.add("Max", place, zero), axis=1)
    clicks = graph.add("Where", graph.add("Less", place, zero), zero, clicks)
    columns = (graph.add("Unsqueeze", clicks, axis) for axis in (last, row))
    same = graph.add("Cast", graph.add("Equal", *columns), to=7)
    later = graph.constant(np.tri(repeats.RECENT, k=-1), np.int64)
    again = graph.add("ReduceMax", graph.add("Mul", same, later), last, keepdims=0)
    known = graph.add("Cast", graph.add("Greater", clicks, zero), to=7)
    again = graph.add("Mul", again, known)
    number = graph.add("ReduceSum", again, row, keepdims=1)
    number = graph.add("Min", number, graph.constant(repeats.MOST, np.int64))
    by_number = graph.constant(weights["repeats"] * repeats.FASTER, np.float32)
    by_recency = graph.constant(weights["recency"][None] * repeats.FASTER, np.float32)
    added = graph.add("Add", graph.add("Gather", by_number, number), by_recency)
    # What is no item any more is added to item 0, of which nothing is found.
    once = graph.add("Sub", graph.constant(1, np.int64), again)
    items = graph.add("Mul", clicks, once)
    return graph.add("ScatterElements", scores, items, added, axis=1, reduction="add")


def _best(graph: _Graph, scores: str, k: int) -> None:
    """Adds the k highest scores of all items but 0."""
    one, end, axis = (graph.constant([v], np.int64) for v in (1, 2**62, 1))
    scores = graph.add("Slice", scores, one, end, axis)
    number = graph.constant([k], np.int64)
    best, index = graph.add("TopK", scores, number, out=2, axis=1)
    index = graph.add("Add", index, graph.constant(1, np.int64))
    for name, kind in (("scores", best), ("best", graph.add("Cast", index, to=6))):
        node = graph.onnx.helper.make_node("Identity", [kind], [name])
        graph.nodes.append(node)
