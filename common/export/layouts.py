"""Folders as other servers of models want them.

Triton's model repository, which KServe's Triton runtime reads too (both speak the protocol v2):

    REPOSITORY/NAME/config.pbtxt     what goes in and comes out
    REPOSITORY/NAME/1/model.onnx     the graph, as it is in the export

Types and shapes are read from the graph, so they are the schema's own. Such a server knows neither
the list of an export's files nor its signature: who copies the folder checks these before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wardround.common.durable.files import writing
from wardround.common.errors import ModelRefused
from wardround.common.export.folder import ExportFolder
from wardround.common.export.names import EXTRA, GRAPH

_MOST_ROWS = 256
_VERSION = 1
_TYPES: Mapping[str, str] = {
    "DOUBLE": "TYPE_FP64",
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "INT64": "TYPE_INT64",
    "INT32": "TYPE_INT32",
    "UINT8": "TYPE_UINT8",
    "BOOL": "TYPE_BOOL",
    "STRING": "TYPE_STRING",
}


def triton_files(graph: bytes, name: str) -> dict[str, bytes]:
    """The files of a model repository, by their paths in it.

    name : of the model there; what isn't a letter, a digit, '-' or '_' becomes '_'

    Raises ModelRefused without onnx, and for a graph of a type that Triton has no name for.
    """
    name = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return {
        f"{name}/config.pbtxt": _config(graph, name).encode(),
        f"{name}/{_VERSION}/{GRAPH}": graph,
    }


def write_triton(made: ExportFolder, repository: Path) -> Path:
    """Put an export into a model repository, under its run's name; the model's folder there.

    Raises ModelRefused for another format than ONNX, and where the repository has that name
    already; RunDirectoryError for a full disk.
    """
    if made.info.form != "onnx":
        raise ModelRefused("Triton's layout is of ONNX files", mend="leave out --triton")
    files = triton_files((made.path / made.info.graph).read_bytes(), made.listed.run)
    folder = repository / next(iter(files)).partition("/")[0]
    if folder.exists():
        raise ModelRefused("is there already", who=str(folder), mend="remove it, or name another")
    with writing(folder, "export again"):
        for name, data in files.items():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            (repository / name).write_bytes(data)
    return folder


def _config(graph: bytes, name: str) -> str:
    try:
        import onnx
    except ImportError:
        raise ModelRefused("onnx isn't installed", mend=EXTRA) from None
    found = onnx.load_model_from_string(graph).graph
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {_MOST_ROWS}",
        *(line for one in found.input for line in _tensor("input", one)),
        *(line for one in found.output for line in _tensor("output", one)),
        "dynamic_batching { }",
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
    ]
    return "\n".join(lines) + "\n"


def _tensor(what: str, value: Any) -> list[str]:
    """Of one input or output; the axis of rows is Triton's own, one that varies is -1."""
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    if kind not in _TYPES:
        raise ModelRefused(f"'{value.name}' is of type {kind}, which Triton has no name for")
    axes = list(value.type.tensor_type.shape.dim)[1:]
    sizes = [str(one.dim_value) if one.HasField("dim_value") else "-1" for one in axes]
    return [
        f"{what} [",
        "  {",
        f"    name: {json.dumps(value.name, ensure_ascii=False)}",
        f"    data_type: {_TYPES[kind]}",
        f"    dims: [ {', '.join(sizes)} ]",
        "  }",
        "]",
    ]
