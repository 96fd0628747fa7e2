"""npm's oidc-provider for tests, started by them, and a person's browser at it.

It is found below ``FOLDER``; ``MISSING`` says what brings it, where it isn't there.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from urllib.parse import urljoin

import requests

VERSION = "8.8.1"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER = Path(os.environ.get("WARDROUND_OIDC_PROVIDER") or _CACHE / "wardround" / "oidc-provider")
SECRET = "a secret of the test"
MISSING = (
    ""
    if shutil.which("node") and (FOLDER / "node_modules" / "oidc-provider").is_dir()
    else f"no oidc-provider: npm install --prefix {FOLDER} oidc-provider@{VERSION} (needs node)"
)


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class IdentityProvider:
    """A provider in a process of its own. Use as a context manager.

    redirect : where it may send people back to
    """

    def __init__(self, redirect: str) -> None:
        script = Path(__file__).with_name("provider.mjs")
        self._process = subprocess.Popen(
            ["node", str(script), str(FOLDER), redirect],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        self.issuer = self._process.stdout.readline().strip()
        assert self.issuer.startswith("http://127.0.0.1:"), "oidc-provider doesn't start"

    def __enter__(self) -> IdentityProvider:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        if self._process.stdout:
            self._process.stdout.close()


def come_back(url: str, name: str, home: str) -> str:
    """The address at ``home`` that a person's browser is sent back to, once they have signed in as
    ``name`` at the provider's ``url`` and agreed."""
    with requests.Session() as browser:
        browser.trust_env = False
        for _ in range(20):
            answer = browser.get(url, allow_redirects=False, timeout=20)
            if answer.status_code == 200:  # its forms: who are you, do you agree
                action = re.search(r'<form[^>]* action="([^"]+)"', answer.text)
                prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
                assert action and prompt, answer.text[:500]
                fields = {"prompt": prompt[1], "login": name, "password": "any"}
                answer = browser.post(
                    urljoin(url, action[1]), fields, allow_redirects=False, timeout=20
                )
            url = urljoin(url, answer.headers["location"])
            if url.startswith(home):
                return url
    raise AssertionError(f"never sent back: {url}")
