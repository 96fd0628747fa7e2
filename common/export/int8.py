"""A graph with weights of 8 bits: a quarter of the size; what it loses is measured, never assumed.

Three ways, by what the graph computes:

* ``dynamic``: weights of matrix products, by output channel, and embeddings; what flows through is
  rounded too, each time by its own range. For encoders of texts, and tables. Nothing of a row is
  in the file.
* ``weights``: weights of convolutions and matrix products, by output channel; the arithmetic stays
  float32. For networks of images, where the dynamic way makes convolutions slow.
* ``static``: the same, and what flows through is rounded by ranges that were seen on calibration
  rows. The smallest and the largest activation of these rows are in the file, so rows of patients
  leave a trace in it: only where a person named them.

Symmetric int8 weights; uint8 activations (Jacob et al. 2018, arXiv 1712.05877).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ModelRefused
from wardround.common.export.int8_info import Method
from wardround.common.export.names import EXTRA

Arrays = Mapping[str, NDArray[Any]]

PRECISION = "wardround.precision"
_CONVOLUTION = "Conv"
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_LEAST = 64
"""Numbers: smaller weights stay as they are, for their scales would weigh as much."""


def method_of(graph: bytes, calibrated: bool) -> Method:
    """The way that suits a graph, with or without calibration rows."""
    if all(node.op_type != _CONVOLUTION for node in _read(graph).graph.node):
        return "dynamic"
    return "static" if calibrated else "weights"


def quantised(graph: bytes, method: Method, calibration: Iterable[Arrays] = ()) -> bytes:
    """The graph with weights of 8 bits; inputs and outputs stay as they are.

    calibration : of ``static``, batches of what the graph is fed

    Equal calls give equal bytes. Raises ModelRefused without onnx, and for a graph that can't be.
    """
    before = _read(graph)
    try:
        if method == "weights":
            model = _weights_only(before)
        else:
            model = _by_runtime(graph, method, calibration)
    except ModelRefused:
        raise
    except Exception as error:  # the library raises what each of its steps does
        raise ModelRefused(
            f"the graph can't be quantised ({type(error).__name__})", mend="leave out --int8"
        ) from None
    from onnx import helper

    notes = {one.key: one.value for one in before.metadata_props}
    helper.set_model_props(model, notes | {PRECISION: "int8"})
    model.producer_name, model.producer_version = "wardround", ""
    found: bytes = model.SerializeToString(deterministic=True)
    return found


def _read(graph: bytes) -> Any:
    try:
        import onnx
    except ImportError:
        raise ModelRefused("onnx isn't installed", mend=EXTRA) from None
    return onnx.load_model_from_string(graph)


class _Batches:
    """What onnxruntime's calibration asks, in its own words."""

    def __init__(self, batches: Iterable[Arrays]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch; None after the last."""
        found = next(self._batches, None)
        return None if found is None else dict(found)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return iter(self.get_next, None)


def _by_runtime(graph: bytes, method: Method, calibration: Iterable[Arrays]) -> Any:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with TemporaryDirectory(prefix="wardround-int8-") as name, _quiet():
        path, out = Path(name) / "float.onnx", Path(name) / "int8.onnx"
        path.write_bytes(graph)
        if method == "dynamic":
            quantization.quantize_dynamic(
                path,
                out,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
            )
        else:
            ready = Path(name) / "ready.onnx"
            quant_pre_process(path, ready)
            quantization.quantize_static(
                ready,
                out,
                _Batches(calibration),
                op_types_to_quantize=list(_PRODUCTS),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        return onnx.load(out)


def _weights_only(model: Any) -> Any:
    """The model with each product's constant weight in int8, multiplied back by nodes that a
    runtime works out when it loads the file (not DequantizeLinear, which it leaves for each run).
    """
    from onnx import TensorProto, helper, numpy_helper

    constants = {one.name: one for one in model.graph.initializer}
    nodes: list[Any] = []
    done: dict[tuple[str, int], str] = {}
    for node in model.graph.node:
        name = node.input[1] if node.op_type in _PRODUCTS else ""
        if name in constants and np.prod(constants[name].dims) >= _LEAST:
            axis = _output_axis(node, len(constants[name].dims))
            if (name, axis) not in done:
                own = f"{name}/{axis}"
                parts = _rounded(numpy_helper.to_array(constants[name]), axis)
                stored = [f"{own}/int8", f"{own}/scale"]
                for key, values in zip(stored, parts, strict=True):
                    model.graph.initializer.append(numpy_helper.from_array(values, key))
                kind = TensorProto.FLOAT
                nodes.append(helper.make_node("Cast", stored[:1], [f"{own}/whole"], to=kind))
                nodes.append(helper.make_node("Mul", [f"{own}/whole", stored[1]], [own]))
                done[name, axis] = own
            node.input[1] = done[name, axis]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    return model


def _output_axis(node: Any, axes: int) -> int:
    """Of a product's weight the axis of its outputs."""
    if node.op_type == _CONVOLUTION:
        return 0
    turned = any(one.name == "transB" and one.i for one in node.attribute)
    return 0 if turned else axes - 1


def _rounded(values: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Whole numbers from -127 to 127, and the scale of each channel, of as many axes: a value is
    off by half a scale at most.

    >>> whole, scale = _rounded(np.array([[1.0, -2.0], [0.0, 0.5]], dtype=np.float32), 0)
    >>> whole.tolist(), (scale * 127).tolist()
    ([[64, -127], [0, 127]], [[2.0], [0.5]])
    """
    others = tuple(one for one in range(values.ndim) if one != axis)
    scale = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1))
    return np.clip(np.rint(values / scale), -127, 127).astype(np.int8), scale


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's advice to prepare what is prepared here, and its progress."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
