"""What a hospital tells the server of its ledger: signed, so that it can't be denied or forged.

The server can't check that a claim is true (that would need the hospital's randomness); it can
check whose it is. JSON of known keys, bounded in size, under an Ed25519 signature.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from wardround.common.errors import ReplyRefused
from wardround.common.trust.identity import SIGNATURE_BYTES, Identity, Roster, digest, verify

_MOST_BYTES = 2048


@dataclass(frozen=True)
class Claim:
    """A hospital's budget after a round. ``epsilon`` covers every run that its ledger knows of.

    delta : of epsilon
    limit : the hospital's own; infinite if it has none
    more : another such round would stay within the limit
    simulated : the noise came from a seed and protects nobody
    """

    federation: str
    run: str
    round: int
    hospital: str
    unit: str
    noise: str
    epsilon: float
    delta: float
    limit: float
    more: bool
    simulated: bool

    def signed(self, identity: Identity) -> bytes:
        """64 bytes of Ed25519 signature, then the JSON (UTF-8, keys sorted) that it is over. The
        digest under it names its purpose: no other thing that was signed can stand for a claim."""
        return _signed(self._body(), identity)

    def _body(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    @property
    def signed_bytes(self) -> int:
        """How long ``signed`` is, whoever signs."""
        return SIGNATURE_BYTES + len(self._body())

    @classmethod
    def read(cls, data: object, name: str, roster: Roster) -> Claim:
        """The claim of hospital ``name``, its signature checked before a byte of it is parsed.

        Raises ReplyRefused for anything else: not bytes, another's key, unknown keys, another
        hospital's name, figures that make no sense.
        """
        if not isinstance(data, bytes) or not SIGNATURE_BYTES < len(data) <= _MOST_BYTES:
            raise ReplyRefused("its privacy claim is missing or of an impossible size")
        signature, body = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
        if not verify(roster.get(name, b""), signature, digest("privacy claim", body)):
            raise ReplyRefused("its privacy claim isn't signed by its own key")
        try:
            values = json.loads(body)
            claim = cls(**values)
        except (ValueError, TypeError, RecursionError):
            raise ReplyRefused("its privacy claim is not readable") from None
        if claim.hospital != name or not claim._is_sane():
            raise ReplyRefused("its privacy claim is of another hospital or not sensible")
        return claim

    def _is_sane(self) -> bool:
        texts = (self.federation, self.run, self.unit, self.noise)
        numbers = (self.epsilon, self.delta, self.limit)
        return (
            all(isinstance(text, str) and len(text) <= 200 for text in texts)
            and all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers)
            and self.epsilon >= 0
            and 0 < self.delta < 1
            and self.limit > 0
            and isinstance(self.round, int)
            and isinstance(self.more, bool)
            and isinstance(self.simulated, bool)
        )

    def row(self) -> dict[str, Any]:
        """For ``metrics.jsonl``; an infinite figure as None."""
        finite = {"epsilon": self.epsilon, "limit": self.limit, "delta": self.delta}
        return {key: value if math.isfinite(value) else None for key, value in finite.items()}


def claimed_epsilon(data: object) -> float | None:
    """The epsilon in a claim of one's own, for one's own log; None if there is none."""
    if not isinstance(data, bytes):
        return None
    value = json.loads(data[SIGNATURE_BYTES:])["epsilon"]
    return float(value) if math.isfinite(value) else None


def signed_now(data: bytes, identity: Identity) -> bytes:
    """A hospital's own claim that it has kept, under the key that it has now."""
    return _signed(data[SIGNATURE_BYTES:], identity)


def _signed(body: bytes, identity: Identity) -> bytes:
    return identity.sign(digest("privacy claim", body)) + body
