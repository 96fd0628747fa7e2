"""A model of tables as one ONNX graph, with gaps, categories and scale inside.

Each column is an input [N, 1] of its own: numbers and binary columns (0 and 1) as float64, NaN
where the cell is empty; categories as texts, in their normal form (``common.text.code``; '2.0' is
known beside '2'), under any name that ``task.columns.codes`` gives them. What comes out is float64
[N, 1] for each output of the schema.

A row that ``wardround predict`` refuses has NaN in every output: a gap with ``missing = "drop"`` or
``"refuse"``, a number that isn't of usual size, a binary value that is neither 0 nor 1, a category
outside a declared list with ``unknown = "refuse"``.

The arithmetic is ``features.py``'s: float64 up to the standardised inputs, which are then rounded
to float32; the model in float32; probabilities in float64 from its outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import ModelRefused
from wardround.common.export.category_numbers import GAP, UNSEEN, category_numbers
from wardround.common.export.exporter import Fed
from wardround.common.export.graph import DOUBLE, FLOAT, STRING, Graph
from wardround.common.export.names import graph_input
from wardround.common.export.source import Source
from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import vocabulary
from wardround.common.tasks.columns import numeric_names
from wardround.common.tasks.data.numbers import MAX_ABS_NUMBER
from wardround.common.tasks.data.reading.texts import missing_codes, missing_numbers
from wardround.common.tasks.features import Constants, constants
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.targets import scale


def tabular_graph(source: Source) -> bytes:
    """The ONNX file of a tabular model. Raises ModelRefused for a layer that it doesn't know."""
    options = task_of(source).options
    totals, outputs = source.totals, [one.name for one in source.schema.outputs]
    inputs = [graph_input(one.name, outputs) for one in source.schema.inputs]
    graph = Graph([*inputs, *outputs])
    columns = _Columns(graph, options, totals, known_constants(source), outputs)
    values = columns.prepared()
    for name, value in _predictions(graph, source, values).items():
        if refused := columns.refused():
            value = graph.node("Where", refused, graph.constant(np.array([[np.nan]])), value)
        graph.output(name, value, DOUBLE)
    return graph.finish(source.notes)


def task_of(source: Fed) -> TabularTask:
    """The model's task, which is of tables."""
    assert isinstance(source.task, TabularTask)  # ``exporter_of`` goes by its name
    return source.task


def known_constants(source: Source) -> Constants:
    """The preparation's numbers."""
    return constants(source.totals, task_of(source).options, source.train)


class _Columns:
    """The columns of a row, one after the other, as they come into the graph."""

    def __init__(
        self,
        graph: Graph,
        options: TabularOptions,
        totals: Sums,
        known: Constants,
        outputs: Sequence[str],
    ) -> None:
        self._graph, self._options, self._totals, self._known = graph, options, totals, known
        self._outputs = outputs
        self._codes = missing_codes(options.missing_values)
        self._bad: list[str] = []

    def prepared(self) -> str:
        """The model's inputs, N x D float32, in the order of ``features.feature_names``."""
        columns, graph = self._options.columns, self._graph
        blocks = [self._number(name) for name in numeric_names(self._totals)]
        blocks += [self._binary(name) for name in sorted(columns.binary)]
        blocks += [self._category(name) for name in sorted(columns.categorical)]
        value = graph.node("Concat", *blocks, axis=1)
        if self._known.mean is not None and self._known.std is not None:
            value = graph.node("Sub", value, graph.constant(self._known.mean[None]))
            value = graph.node("Div", value, graph.constant(self._known.std[None]))
        return graph.cast(value, FLOAT)

    def refused(self) -> str:
        """Whether a row gets no prediction, N x 1 bool; '' where every row gets one."""
        if self._bad:
            self._bad = [self._either(self._bad)]
        return self._bad[0] if self._bad else ""

    def _either(self, flags: Sequence[str]) -> str:
        found = flags[0]
        for flag in flags[1:]:
            found = self._graph.node("Or", found, flag)
        return found

    def _number(self, name: str) -> str:
        graph = self._graph
        value = graph.input(graph_input(name, self._outputs), DOUBLE)
        gap = graph.node("IsNaN", value)
        for code in missing_numbers(self._codes):
            same = graph.node("Equal", value, graph.constant(np.array([[code]])))
            gap = graph.node("Or", gap, same)
        most = graph.constant(np.array([[MAX_ABS_NUMBER]]))
        self._bad.append(graph.node("Greater", graph.node("Abs", value), most))
        return self._filled(name, value, gap)

    def _binary(self, name: str) -> str:
        graph = self._graph
        value = graph.input(graph_input(name, self._outputs), DOUBLE)
        gap = graph.node("IsNaN", value)
        usual = [graph.node("Equal", value, graph.constant(np.array([[x]]))) for x in (0.0, 1.0)]
        self._bad.append(graph.node("Not", self._either([gap, *usual])))
        return self._filled(name, value, gap)

    def _filled(self, name: str, value: str, gap: str) -> str:
        if name not in self._known.fills:
            self._bad.append(gap)
            return value
        fill = self._graph.constant(np.array([[self._known.fills[name]]]))
        return self._graph.node("Where", gap, fill, value)

    def _category(self, name: str) -> str:
        """One column for each category, 1.0 where it is the row's."""
        graph, options = self._graph, self._options
        words = vocabulary(self._totals, name, options)
        numbers = category_numbers(name, words, options)
        value = graph.input(graph_input(name, self._outputs), STRING)
        number = graph.node(
            "LabelEncoder",
            value,
            domain="ai.onnx.ml",
            keys_strings=list(numbers),
            values_int64s=list(numbers.values()),
            default_int64=UNSEEN,
        )
        if options.missing != "median":
            self._bad.append(self._is(number, GAP))
        if name in options.columns.categories and options.unknown == "refuse":
            self._bad.append(self._is(number, UNSEEN))
        first = 1 if options.encoding == "dummy" else 0
        all_numbers = graph.constant(np.arange(first, len(words), dtype=np.int64)[None])
        return graph.cast(graph.node("Equal", number, all_numbers), DOUBLE)

    def _is(self, number: str, which: int) -> str:
        wanted = self._graph.constant(np.array([[which]], dtype=np.int64))
        return self._graph.node("Equal", number, wanted)


def _predictions(graph: Graph, source: Source, value: str) -> dict[str, str]:
    """Named outputs, N x 1 float64 each, of the prepared inputs."""
    kind, names = task_of(source).kind, [one.name for one in source.schema.outputs]
    value = _layers(graph, source.module, value)
    if kind == "regression":
        mean, std = (np.float32(one) for one in scale(source.totals))
        value = graph.node("Mul", value, graph.constant(np.array([[std]], dtype=np.float32)))
        value = graph.node("Add", value, graph.constant(np.array([[mean]], dtype=np.float32)))
    value = graph.cast(value, DOUBLE)
    if kind == "binary":
        value = graph.node("Sigmoid", value)
    if kind != "multiclass":
        return {names[0]: value}
    value = graph.node("Softmax", value, axis=1)
    found = {}
    for number, name in enumerate(names):
        column = graph.constant(np.array([number], dtype=np.int64))
        found[name] = graph.node("Gather", value, column, axis=1)
    return found


def _layers(graph: Graph, model: nn.Module, value: str) -> str:
    """The model, layer by layer, as it is in evaluation: float32 N x O of N x D."""
    for layer in model if isinstance(model, nn.Sequential) else [model]:
        if isinstance(layer, nn.Linear):
            parts = [x for x in (layer.weight, layer.bias) if x is not None]
            value = graph.node("Gemm", value, *map(_constant(graph), parts), transB=1)
        elif isinstance(layer, nn.BatchNorm1d):
            seen = [layer.running_mean, layer.running_var]
            own = map(_constant(graph), [layer.weight, layer.bias, *seen])
            value = graph.node("BatchNormalization", value, *own, epsilon=layer.eps)
        elif isinstance(layer, nn.LayerNorm):
            own = map(_constant(graph), [layer.weight, layer.bias])
            value = graph.node("LayerNormalization", value, *own, axis=-1, epsilon=layer.eps)
        elif isinstance(layer, nn.ReLU):
            value = graph.node("Relu", value)
        elif not isinstance(layer, nn.Dropout):
            raise ModelRefused(f"no ONNX form of a layer {type(layer).__name__} is known here")
    return value


def _constant(graph: Graph) -> Any:
    def constant(values: Tensor | None) -> str:
        assert values is not None  # the tasks' own layers have all of them
        found: NDArray[Any] = values.detach().cpu().numpy()
        return graph.constant(found)

    return constant
