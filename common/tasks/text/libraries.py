"""Libraries that would do more at import than be imported."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from types import ModuleType

from wardround.common.errors import TaskError


def peft() -> ModuleType:
    """peft, which imports bitsandbytes where that is installed. Raises TaskError."""
    _prepare_bitsandbytes()
    try:
        return importlib.import_module("peft")
    except ImportError:
        raise TaskError("adapters need: pip install 'wardround[text]'") from None


def bitsandbytes() -> ModuleType:
    """bitsandbytes' functions. Raises TaskError."""
    _prepare_bitsandbytes()
    try:
        return importlib.import_module("bitsandbytes.functional")
    except ImportError:
        raise TaskError(
            "task.base_dtype = 'nf4' needs: pip install 'wardround[quantised]'; 'int8' and 'bf16' "
            "need nothing more"
        ) from None


def _prepare_bitsandbytes() -> None:
    """Import bitsandbytes, where it is installed, without what it does besides: on some processors
    it asks the package ``kernels`` for code from a hub, runs that, and warns where it can't."""
    if "bitsandbytes" in sys.modules:
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logger, found = logging.getLogger("bitsandbytes"), sys.modules.get("kernels")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sys.modules["kernels"] = None  # type: ignore[assignment]  # so that importing it fails
    try:
        importlib.import_module("bitsandbytes")
    except ImportError:
        pass
    finally:
        logger.setLevel(level)
        del sys.modules["kernels"]
        if found is not None:
            sys.modules["kernels"] = found
