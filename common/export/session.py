"""An exported graph, run by onnxruntime. Neither torch nor a task's own code is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError, ModelRefused
from wardround.common.export.names import EXTRA, graph_input

_TYPES: Mapping[str, Any] = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


class GraphSession:
    """A graph that is ready to predict; calls from several threads may run at once.

    Parameters
    ----------
    graph : its file, or the file's bytes
    threads : for one call; of one, equal calls give equal bits

    Attributes
    ----------
    outputs : names of what ``run`` gives

    Raises ModelRefused without onnxruntime, and for a graph that it can't load.
    """

    def __init__(self, graph: Path | bytes, threads: int = 1) -> None:
        runtime = _runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # its lines may quote what was fed
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        what = graph if isinstance(graph, bytes) else str(graph)
        try:
            self._session = runtime.InferenceSession(
                what, sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base but this
            where = "" if isinstance(graph, bytes) else str(graph)
            raise ModelRefused(
                f"onnxruntime {runtime.__version__} can't load the graph ({type(error).__name__})",
                who=where,
                mend="export the model again",
            ) from None
        self.outputs = tuple(one.name for one in self._session.get_outputs())
        self._inputs = {
            one.name: (_TYPES[one.type], len(one.shape), _sizes(one.shape))
            for one in self._session.get_inputs()
        }

    @property
    def inputs(self) -> tuple[str, ...]:
        """The graph's own names of what it takes, in its order."""
        return tuple(self._inputs)

    def run(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs of some rows, by name; an output of one number for each row is N.

        columns : by the schema's names, or the graph's; of one value for each row N or N x 1.
            Others than the graph takes are left aside

        Raises DataError for a column that isn't there, or isn't of its shape; it quotes no value.
        """
        feed = {name: self._column(name, columns) for name in self._inputs}
        if len({len(values) for values in feed.values()}) > 1:
            raise DataError("the columns have unlike numbers of rows")
        try:
            found = self._session.run(None, feed)
        except Exception as error:  # as above; its text may quote a shape, never more
            raise DataError(f"the graph refused the rows ({type(error).__name__})") from None
        return {
            name: value[:, 0] if value.ndim == 2 and value.shape[1] == 1 else value
            for name, value in zip(self.outputs, found, strict=True)
        }

    def _column(self, name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        kind, axes, sizes = self._inputs[name]
        column = name
        if name not in columns:
            own = [one for one in columns if graph_input(one, self.outputs) == name]
            if not own:
                raise DataError(f"there is no column '{name}', which the model takes")
            column = own[0]
        try:
            values = np.asarray(columns[column], dtype=kind)
        except (ValueError, TypeError):
            raise DataError(f"column '{column}' isn't of the type that the model takes") from None
        if values.ndim + 1 == axes and sizes.get(axes - 1) == 1:
            values = values[..., None]
        if values.ndim != axes or any(values.shape[at] != size for at, size in sizes.items()):
            raise DataError(f"column '{column}' isn't of the shape that the model takes")
        return values


def _sizes(shape: Sequence[Any]) -> dict[int, int]:
    """The axes whose sizes are fixed, and these."""
    return {at: size for at, size in enumerate(shape) if isinstance(size, int)}


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ModelRefused("onnxruntime isn't installed", mend=EXTRA) from None
    return onnxruntime
