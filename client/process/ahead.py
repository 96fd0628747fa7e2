"""What a child would import when it first reads rows: forked children find it imported.

pyarrow looks for pandas when it is first given a list, and imports it if it is installed, which
takes a third of a second: once for the server that children are forked from, not in each of them.
"""

from __future__ import annotations

import contextlib
import importlib

with contextlib.suppress(ImportError):
    importlib.import_module("pandas")
