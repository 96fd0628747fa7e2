"""Names and values that settings declare, in the normal form in which cells are compared.

Whoever writes a study and whoever exported a file may write one letter in two ways (composed, as
most systems do, or as a letter and its accent, as macOS does), put a blank beside it, or write the
code 1 as 1.0. So a column's name and a cell's value are brought to their normal form where a
setting is read, once for all that compare them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from wardround.common.text import code, normal_text


def _apart(normal: Callable[[str], str]) -> BeforeValidator:
    """Refuses a table two of whose keys are one by their normal form: one of them would be lost."""

    def check(table: object) -> object:
        seen = dict[str, str]()
        for key in map(str, table) if isinstance(table, dict) else ():
            if (other := seen.setdefault(normal(key), key)) != key:
                raise ValueError(f"'{other}' and '{key}' are the same; keep one of them")
        return table

    return BeforeValidator(check)


Name = Annotated[str, AfterValidator(normal_text)]
"""A column's name."""
Formula = Annotated[str, AfterValidator(normal_text)]
"""An expression in which columns are named."""
Value = Annotated[str, AfterValidator(code)]
"""A value that cells may have."""
BY_NAME, BY_VALUE = _apart(normal_text), _apart(code)
"""Of a table whose keys are names, or values: no two are one."""
