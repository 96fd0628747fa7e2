"""A strategy's state as arrays and JSON, so that any Flower strategy survives a crash.

All attributes of the object are walked: numbers, text, lists, dictionaries, numpy arrays and
Flower's array records are kept; functions are part of the configuration and are not. Anything else
is refused before the run starts, because it would be lost silently.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord

from wardround.common.errors import StrategyError
from wardround.common.flower.arrays import Arrays, decode_arrays, encode_arrays

_ARRAY, _RECORD, _TUPLE = "__array__", "__record__", "__tuple__"


def capture_state(strategy: object) -> tuple[Arrays, dict[str, Any]]:
    """(arrays, JSON-ready tree) of the strategy's attributes. Raises StrategyError by attribute."""
    arrays: Arrays = {}
    tree = {
        name: _encode(value, name, arrays)
        for name, value in vars(strategy).items()
        if not callable(value)
    }
    return arrays, tree


def restore_state(strategy: object, arrays: Arrays, tree: dict[str, Any]) -> None:
    """Set the attributes as they were captured."""
    for name, value in tree.items():
        setattr(strategy, name, _decode(value, arrays))


def _encode(value: Any, path: str, arrays: Arrays) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {_ARRAY: path}
    if isinstance(value, Array):
        return _encode(value.numpy(), path, arrays)
    if isinstance(value, ArrayRecord):
        for name, array in decode_arrays(value).items():
            arrays[f"{path}/{name}"] = array
        return {_RECORD: list(value), "path": path}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{path}.{i}", arrays) for i, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _encode(item, f"{path}.{key}", arrays) for key, item in value.items()}
    raise StrategyError(
        f"the strategy keeps a {type(value).__name__} in '{path}', which a checkpoint can't hold; "
        "keep numbers, text, lists, dictionaries or numpy arrays"
    )


def _decode(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays[value[_ARRAY]]
    if _RECORD in value:
        return encode_arrays({k: arrays[f"{value['path']}/{k}"] for k in value[_RECORD]})
    if _TUPLE in value:
        return tuple(_decode(item, arrays) for item in value[_TUPLE])
    return {key: _decode(item, arrays) for key, item in value.items()}
