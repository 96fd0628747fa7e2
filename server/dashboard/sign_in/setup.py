"""Sign-in as the settings have it: which files there are, and what is refused before it serves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wardround.common.config.load import Config
from wardround.common.durable.private import read_private
from wardround.common.errors import ConfigError
from wardround.common.settings.dashboard import DashboardTable
from wardround.server.dashboard.sign_in.accounts import LiveAccounts, read_accounts
from wardround.server.dashboard.sign_in.oidc import Provider
from wardround.server.dashboard.sign_in.sessions import Sessions

SECRET = "WARDROUND_OIDC_SECRET"
_LEAST_TOKEN = 16


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """What lets people in. ``metrics_token``: what Prometheus must send; '' nothing will do."""

    settings: DashboardTable
    accounts: LiveAccounts
    sessions: Sessions
    provider: Provider | None = None
    metrics_token: str = ""

    @property
    def encrypted(self) -> bool:
        """Browsers reach it by TLS: its own, or that of a proxy in front."""
        return bool(self.settings.certificate) or self.settings.url.startswith("https:")


def accounts_path(config: Config) -> Path:
    """Where the accounts lie."""
    if named := config.server.dashboard.accounts:
        return config.folder / named
    return config.folder / config.server.folder / "server" / "accounts.json"


def open_sign_in(config: Config) -> SignIn | None:
    """Sign-in, or None where nothing asks for it: no file of accounts, no provider.

    Raises ConfigError and ProvisionError: a file that is named isn't there, or isn't private.
    """
    settings, folder = config.server.dashboard, config.folder
    path = accounts_path(config)
    if not settings.accounts and not settings.oidc_issuer and not path.exists():
        return None
    read_accounts(path)  # to say now what is wrong with it
    accounts = LiveAccounts(path)
    secret = os.environ.get(SECRET, "")
    if settings.oidc_client_secret:
        secret = _word(folder / settings.oidc_client_secret, "server.dashboard.oidc_client_secret")
    token = ""
    if settings.metrics_token:
        token = _word(folder / settings.metrics_token, "server.dashboard.metrics_token")
        if len(token) < _LEAST_TOKEN:
            raise ConfigError(
                f"server.dashboard.metrics_token: has under {_LEAST_TOKEN} characters; "
                "openssl rand -hex 32 makes one"
            )
    return SignIn(
        settings=settings,
        accounts=accounts,
        sessions=Sessions(accounts, settings.session_hours * 3600),
        provider=Provider(settings, secret) if settings.oidc_issuer else None,
        metrics_token=token,
    )


def _word(path: Path, key: str) -> str:
    text = read_private(path, f"or leave {key} out").decode("utf-8", "replace").strip()
    if not text or not text.isprintable():
        raise ConfigError(f"{key}: {path} has no word in it", mend="write the secret into it")
    return text
