"""How often somebody may try: after a few failures, a pause that doubles with each further one.

Counted per name from one network, per name from everywhere, and per network, whether there is such
an account or not. While a pause lasts nothing is checked at all, so a right password tells nothing.
Bounded: the names that failed longest ago are forgotten first.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MOST = 20_000


@dataclass(frozen=True)
class _Rule:
    """``free`` failures cost nothing; then pauses of 2, 4, 8... seconds, up to ``longest_s``."""

    free: int
    longest_s: float


_RULES = {
    "both": _Rule(3, 900.0),
    "name": _Rule(30, 30.0),  # short: others must not be able to keep somebody out for long
    "address": _Rule(30, 300.0),
}


@dataclass
class _Count:
    failures: int = 0
    until: float = 0.0


class Patience:
    """Pauses by name and address. Thread-safe.

    clock : seconds that never go back
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._counts: OrderedDict[tuple[str, ...], _Count] = OrderedDict()

    def ask(self, name: str, address: str) -> float:
        """0: try, and this counts as a failure until ``succeeded`` (so tries at one moment all
        count). Else the seconds to wait first; asking during a pause makes it no longer."""
        with self._lock:
            now, keys = self._clock(), _keys(name, address)
            pause = max(self._counts[key].until - now if key in self._counts else 0 for key in keys)
            if pause > 0:
                return pause
            for key in keys:
                self._fail(key, now)
            while len(self._counts) > _MOST:
                self._counts.popitem(last=False)
            return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """The try went well: this name from this address begins anew."""
        with self._lock:
            both, *others = _keys(name, address)
            self._counts.pop(both, None)
            for key in others:
                if (count := self._counts.get(key)) and count.failures > 0:
                    count.failures -= 1
                    count.until = 0.0

    def _fail(self, key: tuple[str, ...], now: float) -> None:
        count, rule = self._counts.setdefault(key, _Count(until=now)), _RULES[key[0]]
        self._counts.move_to_end(key)
        if now > count.until + 4 * rule.longest_s:  # quiet for long: forgotten
            count.failures = 0
        count.failures += 1
        over = min(count.failures - rule.free, 20)
        count.until = now + (min(rule.longest_s, 2.0**over) if over > 0 else 0.0)


def _keys(name: str, address: str) -> list[tuple[str, ...]]:
    place = _network(address)
    return [("both", name, place), ("name", name), ("address", place)]


def _network(address: str) -> str:
    """Of IPv6 the /64, of which one machine has all addresses."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6 and (mapped := found.ipv4_mapped) is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(mapped if found.version == 6 else found)
