"""A torch module as an ONNX graph, by torch's own exporter.

Nothing of this machine stays in the file: torch notes at each node from which line of which file it
came. Opset 18, which runtimes of 2023 and later read.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.errors import ModelRefused
from wardround.common.export.names import EXTRA, TRACED_OPSET

MOST_BYTES = 2**31 - 2**20
"""Of weights: one protobuf message can't be larger than 2 GiB, and there is room for the rest."""
Axes = Mapping[int, str]


def traced_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, Axes],
    outputs: Sequence[str],
    notes: Mapping[str, str],
) -> bytes:
    """The module's graph, for inputs of any size along some axes. Equal calls give equal bytes.

    Parameters
    ----------
    inputs : an example of each argument, in the order of ``forward``; along a free axis at least 2
    axes : of each input the free axes, by number, and what each is called; equal names, equal sizes
    outputs : names, in the order of the module's
    notes : the file's metadata

    Raises ModelRefused without onnx and onnxscript, and for a model of over 2 GiB.
    """
    _check(module)
    names = sorted({name for free in axes.values() for name in free.values()})
    sizes = {name: torch.export.Dim(name) for name in names}
    free = tuple({axis: sizes[x] for axis, x in axes[name].items()} for name in inputs)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=free,
            opset_version=TRACED_OPSET,
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    assert program is not None
    return _plain(program.model_proto, notes)


def _check(module: nn.Module) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ModelRefused("onnx and onnxscript aren't installed", mend=EXTRA) from None
    size = sum(x.nbytes for x in module.state_dict().values())
    if size > MOST_BYTES:
        raise ModelRefused(
            f"its weights take {size / 2**30:.1f} GiB, and an ONNX file holds no more than 2",
            mend="of a text model, --format hf has no such limit",
        )


def _plain(model: Any, notes: Mapping[str, str]) -> bytes:
    """The file's bytes, with these notes and no others."""
    from onnx import checker, helper

    graph = model.graph
    for part in (*graph.node, *graph.initializer, *_values(graph), graph, model):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.value_info[:]
    model.producer_name, model.producer_version = "wardround", ""
    helper.set_model_props(model, dict(notes))
    checker.check_model(model)
    found: bytes = model.SerializeToString(deterministic=True)
    return found


def _values(graph: Any) -> Iterable[Any]:
    return (*graph.input, *graph.output)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on what it isn't asked for, such as torchvision."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
