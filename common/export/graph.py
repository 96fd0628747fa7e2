"""Nodes and constants of an ONNX graph, in the order of their making, under names of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ModelRefused
from wardround.common.export.names import EXTRA, IR_VERSION, ML_OPSET, OPSET

FLOAT, INT64, STRING, DOUBLE = 1, 7, 8, 11
"""Types of values, as the ONNX standard numbers them."""
_ROWS = "N"


def onnx_package() -> Any:
    """The package ``onnx``. Raises ModelRefused where it isn't installed."""
    try:
        import onnx
    except ImportError:
        raise ModelRefused("to export, onnx must be installed", mend=EXTRA) from None
    return onnx


class Graph:
    """A graph that is being made.

    taken : names of inputs and outputs, which no value within may have
    """

    def __init__(self, taken: Sequence[str]) -> None:
        self._onnx = onnx_package()
        self._taken = set(taken)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, kind: int) -> str:
        """A column, [N, 1]."""
        info = self._onnx.helper.make_tensor_value_info(name, kind, [_ROWS, 1])
        self._inputs.append(info)
        return name

    def constant(self, values: NDArray[Any]) -> str:
        """A constant of the array's type and shape."""
        name = self._name("constant")
        array = np.asarray(values)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The only output of a new node."""
        name = self._name(kind)
        made = self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes)
        self._nodes.append(made)
        return name

    def cast(self, value: str, kind: int) -> str:
        """The value in another type."""
        return self.node("Cast", value, to=kind)

    def output(self, name: str, value: str, kind: int) -> None:
        """A column of what comes out, [N, 1]: this value under that name."""
        helper = self._onnx.helper
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"output {name}"))
        self._outputs.append(helper.make_tensor_value_info(name, kind, [_ROWS, 1]))

    def finish(self, notes: Mapping[str, str]) -> bytes:
        """The file. ``notes``: its metadata. Equal calls give equal bytes; raises
        onnx.checker.ValidationError for a graph that can't be."""
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, "model", self._inputs, self._outputs, self._constants
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="wardround"
        )
        helper.set_model_props(model, dict(notes))
        self._onnx.checker.check_model(model, full_check=True)
        found: bytes = model.SerializeToString(deterministic=True)
        return found

    def _name(self, kind: str) -> str:
        name = f"{kind} {len(self._nodes) + len(self._constants)}"
        while name in self._taken:
            name += "'"
        self._taken.add(name)
        return name
