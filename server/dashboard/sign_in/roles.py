"""What a person may be: a coordinator, who sees all, a researcher or a hospital's, who see theirs.

The same roles as on the port that hospitals dial, where a certificate says them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from wardround.common.errors import ConfigError
from wardround.common.names import is_name, name_of

Kind = Literal["coordinator", "researcher", "hospital"]
_RULE = "give coordinator, researcher:NAME or hospital:NAME"


@dataclass(frozen=True, order=True)
class Role:
    """A role, and whose: '' of a coordinator, else the researcher's or hospital's name."""

    kind: Kind
    party: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.party}" if self.party else self.kind


@dataclass(frozen=True)
class Visitor:
    """Who looks: what the page calls them, and their roles; more than one are seen together."""

    name: str
    roles: frozenset[Role]

    @property
    def sees_all(self) -> bool:
        """Everything of every study, and of the network."""
        return Role("coordinator") in self.roles

    def parties(self, kind: Kind) -> frozenset[str]:
        """The researchers or hospitals that this person belongs to."""
        return frozenset(role.party for role in self.roles if role.kind == kind)


ANYBODY = Visitor("", frozenset([Role("coordinator")]))
"""Who looks where nobody has to sign in: from this machine."""


def read_role(text: str) -> Role:
    """A role as people write it. Raises ConfigError."""
    kind, colon, party = text.partition(":")
    if kind == "coordinator" and not colon:
        return Role("coordinator")
    if kind in ("researcher", "hospital") and party:
        name = name_of(party)
        if is_name(name):
            return Role("researcher" if kind == "researcher" else "hospital", name)
    raise ConfigError(f"role {text!r:.80}: {_RULE}")


def read_roles(texts: Iterable[str]) -> frozenset[Role]:
    """At least one role. Raises ConfigError."""
    roles = frozenset(read_role(text) for text in texts)
    if not roles:
        raise ConfigError("no role", mend=_RULE)
    return roles
