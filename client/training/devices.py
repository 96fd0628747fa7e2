"""Whether ``training.device`` is a device at all, and one that torch has here."""

from __future__ import annotations

import os

import torch

from wardround.common.protocol.describe import DEVICES


def no_device(text: str) -> str:
    """Why the text names no device; '' if it does, here or elsewhere."""
    try:
        named = str(torch.device(text)) == text  # torch reads 'cuda:256' as 'cuda:0'
    except RuntimeError:
        named = False
    return "" if named else "no device that torch knows; set 'cpu', 'cuda', 'cuda:1' or 'mps'"


def kind(device: str) -> str:
    """'cpu' or 'cuda', which a server may be told; '' for others."""
    found = torch.device(device).type
    return found if found in DEVICES else ""


def told(device: str) -> str:
    """A line for the log: which device computes, what lies idle beside it, and the key that would
    change that."""
    names = _gpus()
    if not device.startswith("cuda"):
        idle = f"; {', '.join(names)} lies idle: set device = 'auto' in site.toml" if names else ""
        return f"computes on {device} ({os.cpu_count()} cores){idle}"
    number = torch.device(device).index or 0
    others = [name for index, name in enumerate(names) if index != number]
    idle = f"; {', '.join(others)} lies idle (processes, in site.toml)" if others else ""
    return f"computes on {device} ({names[number] if number < len(names) else 'GPU'}){idle}"


def _gpus() -> list[str]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.cuda.get_device_name(index) for index in range(count)]


def missing_device(text: str) -> str:
    """Why nothing can be computed on the device here; '' if it can."""
    if why := no_device(text):
        return why
    device = torch.device(text)
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) < found:
            return ""
        last = "" if found < 2 else f" to 'cuda:{found - 1}'"
        mend = f"set 'cuda:0'{last}, or 'cpu'" if found else "set 'cpu'"
        return f"torch sees {found} GPUs here; {mend}"
    try:
        float(torch.zeros(1, device=device))
    except Exception:  # each backend has its own: AssertionError, NotImplementedError, ImportError
        return "torch can't compute there on this machine; set 'cpu', or 'cuda' for a GPU"
    return ""
