"""Which key of a table a check over several keys finds fault with."""

from __future__ import annotations


class WrongKey(ValueError):
    """Raised by a pydantic validator that sees a whole table: the fault lies in one of its keys.

    ``common.toml_source`` makes the key's full name of it ('task.size'), which a plain ValueError
    from such a validator can't have.

    key : below the validator's own table; dotted for one in a table inside it
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
