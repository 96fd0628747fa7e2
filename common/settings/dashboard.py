"""``[server.dashboard]``: who may look at the dashboard, and how browsers reach it.

No secret stands here: passwords are hashed in the accounts' file, the provider's secret and the
token of ``/metrics`` are files of their own. Who may see what is in the accounts' file too, so that
no person's address is in a configuration that others get to read.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from wardround.common.address import is_loopback
from wardround.common.settings.base import PathText, Table

_URL = r"^(https?://[^\s?#@]{1,500})?$"


class DashboardTable(Table):
    """``[server.dashboard]``: sign-in, TLS, and the address that people type."""

    url: str = Field(
        "",
        pattern=_URL,
        description=(
            "where people's browsers find it, such as `https://studies.example.org`: of the proxy "
            "in front, if there is one; `http` on this machine only"
        ),
    )
    accounts: PathText = Field(
        "",
        description=(
            "the file of who may sign in, which `wardround account` writes; empty: "
            "`server/accounts.json` below `folder`. Where it is there, everybody has to sign in"
        ),
    )
    certificate: PathText = Field("", description="PEM file, with its chain: TLS of its own")
    key: PathText = Field("", description="PEM file of the certificate's key")
    session_hours: float = Field(
        12.0, gt=0, le=720, description="after which one has to sign in again"
    )
    metrics_token: PathText = Field(
        "",
        description=(
            "a file (mode 0600) with the word that Prometheus sends as bearer token; empty: with "
            "sign-in, `/metrics` is for coordinators who are signed in"
        ),
    )
    oidc_issuer: str = Field(
        "",
        pattern=_URL,
        description="of an OpenID Connect provider that people sign in at; empty: none",
    )
    oidc_client_id: str = Field("", max_length=300, description="this dashboard, at the provider")
    oidc_client_secret: PathText = Field(
        "",
        description=(
            "a file (mode 0600) with the secret; empty: the environment's `WARDROUND_OIDC_SECRET`; "
            "neither: a public client, by PKCE alone"
        ),
    )
    oidc_scopes: str = Field("openid email", max_length=300, description="what is asked for")
    oidc_claim: str = Field(
        "email",
        min_length=1,
        max_length=100,
        description=(
            "of the ID token: what `wardround account add NAME --provider` names people, or "
            "groups, by; an `email` counts only with `email_verified`"
        ),
    )

    @field_validator("url", "oidc_issuer")
    @classmethod
    def _is_encrypted(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not parts.hostname:
            raise ValueError("write https://host, and :port and a path if there are any")
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            raise ValueError("only on this machine may it be http; write https://...")
        return value

    @model_validator(mode="after")
    def _fits(self) -> DashboardTable:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together: give both files, or neither")
        if self.oidc_issuer and not (self.oidc_client_id and self.url):
            raise ValueError(
                "oidc_issuer needs oidc_client_id, and url: the provider sends people back there"
            )
        if self.oidc_issuer and "openid" not in self.oidc_scopes.split():
            raise ValueError("oidc_scopes must have 'openid' among them")
        return self
