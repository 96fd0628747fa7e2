"""A model as a program of ``torch.export``: a .pt2 file, for torch and what compiles from it.

TorchScript isn't offered: torch develops it no more. A .pt2 file is loaded with
``torch.export.load``, by whoever trusts it: look at the signed list first.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch.export import Dim

from wardround.common.export.exporter import Arrays, Exporter
from wardround.common.export.source import Source

_MOST = 1 << 24
Run = Callable[[Arrays], Mapping[str, NDArray[Any]]]


def program_of(source: Source, exporter: Exporter, columns: Arrays) -> tuple[bytes, Run]:
    """(the file, what runs it as it was read again).

    columns : rows that the program is traced on, as the ONNX graph takes them

    Raises ModelRefused where the model has no program.
    """
    example = exporter.program_inputs(
        source, {name: values[:3] for name, values in columns.items()}
    )
    free = {axis: Dim(name, min=1, max=_MOST) for axis, name in enumerate(exporter.free_axes)}
    shapes = tuple(free for _ in example)
    with torch.no_grad():
        program = torch.export.export(
            exporter.program(source).eval(), example, dynamic_shapes=shapes
        )
    file = io.BytesIO()
    torch.export.save(program, file)
    data = file.getvalue()
    loaded = torch.export.load(io.BytesIO(data)).module()

    def run(rows: Arrays) -> Mapping[str, NDArray[Any]]:
        with torch.no_grad():
            found = loaded(*exporter.program_inputs(source, rows))
        return {name: values.numpy() for name, values in found.items()}

    return data, run
