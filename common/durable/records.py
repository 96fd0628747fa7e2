"""Flower's records on disk: what a hospital's process remembers (``Context.state``), saved before
an answer leaves, and what a server carries between the parties of a joint procedure.

Keys and counters of secure aggregation, control variates and personal layers lie in records of a
``RecordDict``. Only records that were replaced are written again, each to a file of its own; the
index that names them is renamed into place last, so a crash at any moment leaves the old state or
the new one. What the index doesn't name is removed at the next start: old keys don't stay behind.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from flwr.app import RecordDict

from wardround.common.durable.private import private_folder, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError, TransportError
from wardround.common.flower.content import Record, decode_content, encode_content

_INDEX = "index.json"
_LOST = "keys of open rounds and personal layers are then lost"
FORMAT = Format("state of this hospital", f"move the folder away to begin without it ({_LOST})")


class DurableState:
    """A ``RecordDict`` and the folder that it is kept in.

    Raises ProvisionError if the folder's files are damaged or newer: what a hospital has promised
    to others is in them, so it never begins anew by itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        private_folder(folder)
        self.records = RecordDict()
        self._files: dict[str, str] = {}
        self._saved: dict[str, Record] = {}
        self._number = 0
        if (folder / _INDEX).exists():
            self._load()
        for file in folder.iterdir():
            if file.name != _INDEX and file.name not in self._files.values():
                file.unlink()

    def save(self) -> None:
        """Make the present records durable. Raises ProvisionError if they can't be written.

        A record is known by identity: replace it, since one that was changed in place isn't seen.
        """
        records = dict(self.records)
        changed = [name for name, one in records.items() if self._saved.get(name) is not one]
        if not changed and list(records) == list(self._saved):
            return
        files = {}
        for name, record in records.items():
            if name in changed:
                self._number += 1
                files[name] = f"{self._number:08d}.record"
                body = encode_content(RecordDict({name: record}))
                write_private(self._folder / files[name], body.read(0, body.size_bytes))
            else:
                files[name] = self._files[name]
        index = {"number": self._number, "files": files}
        write_private(self._folder / _INDEX, json.dumps(FORMAT.seal(index)).encode())
        # only now, since the old index names them
        for old in set(self._files.values()) - set(files.values()):
            (self._folder / old).unlink(missing_ok=True)
        self._files, self._saved = files, records

    def _load(self) -> None:
        try:
            stored = json.loads((self._folder / _INDEX).read_bytes())
            index = FORMAT.read(stored, ProvisionError, str(self._folder))
            self._number, self._files = int(index["number"]), dict(index["files"])
            for name, file in self._files.items():
                data = (self._folder / Path(file).name).read_bytes()
                self.records[name] = decode_content(io.BytesIO(data), len(data))[name]
        except (OSError, ArithmeticError, ValueError, KeyError, TypeError, TransportError) as error:
            raise ProvisionError(
                f"{self._folder}: what this hospital remembers is damaged "
                f"({type(error).__name__}); {FORMAT.mend}"
            ) from None
        self._saved = dict(self.records)
