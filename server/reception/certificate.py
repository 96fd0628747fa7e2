"""The server's certificate while it runs: a renewed one is taken up at the next handshake."""

from __future__ import annotations

import logging

from wardround.common.errors import ProvisionError
from wardround.common.transport import tls
from wardround.common.trust.credentials import NAMES, read_credentials
from wardround.server.provision.kits import ServerFolder

log = logging.getLogger("wardround.server")


class Certificate:
    """What the server shows in handshakes; ``files`` at first, then whatever is renewed."""

    def __init__(self, folder: ServerFolder) -> None:
        self._folder = folder.folder
        self._path = folder.folder / NAMES["server"].certificate
        self._seen = self._path.read_bytes()
        self.files = tls.Files(folder.ca_pem, folder.certificate_pem, folder.key_pem)

    def renewed(self) -> tls.Files | None:
        """The new files if the folder has other ones since the last call, whole and consistent."""
        try:
            found = self._path.read_bytes()
            if found == self._seen:
                return None
            self._seen = found
            new = read_credentials(self._folder, "server")
        except (OSError, ProvisionError) as error:
            log.error("the renewed certificate can't be used: %s", error)
            return None
        log.info("the server's renewed certificate is in use, until %s", new.info.not_after)
        return tls.Files(new.ca_pem, new.certificate_pem, new.key_pem)
