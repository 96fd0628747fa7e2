"""The signed description as a running server has it: its file is looked at again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from wardround.common.errors import WardroundError
from wardround.common.trust.description import Description
from wardround.server.provision.kits import ServerFolder


class PresentDescription:
    """The newest description that was found in the server's folder.

    Attributes
    ----------
    now : decoded, and checked against the consortium's authority
    roster : its hospitals and their public keys, as they are when it is looked at
    """

    def __init__(self, folder: ServerFolder) -> None:
        self.now = folder.description
        self.roster: Mapping[str, bytes] = _LiveRoster(lambda: self.now.hospitals)
        self._path, self._ca_pem = folder.description_path, folder.ca_pem
        self._seen = b""
        # the folder was read when the process began: a standby may have waited for weeks since, and
        # takes nobody for gone who came meanwhile
        with suppress(OSError, WardroundError):
            self.look_again()

    def text(self) -> str:
        """The file as hospitals are sent it. Raises OSError."""
        return self._path.read_text("utf-8")

    def look_again(self) -> bool:
        """Whether the file has another description than before, or the same signed anew, which is
        the present one now. Raises OSError, or WardroundError for a file that can't be used: the
        one before stays."""
        data = self._path.read_bytes()
        if data == self._seen:
            return False
        found = Description.read(data, self._ca_pem)
        self._seen = data
        if found.order == self.now.order:
            return False
        self.now = found
        return True


class _LiveRoster(Mapping[str, bytes]):
    """The roster of the present description, which may change while the run goes on."""

    def __init__(self, hospitals: Callable[[], Mapping[str, bytes]]) -> None:
        self._hospitals = hospitals

    def __getitem__(self, name: str) -> bytes:
        return self._hospitals()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hospitals())

    def __len__(self) -> int:
        return len(self._hospitals())
