"""What a simulation's hospitals are made from, so that an actor elsewhere makes the same ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import DataError, WardroundError
from wardround.common.trust.identity import Identity
from wardround.simulations.population.hospitals import Population
from wardround.simulations.population.identities import Identities


@dataclass(frozen=True)
class Recipe:
    """What a simulation's hospitals are made from.

    config : TOML text with absolute paths
    names : digest of the hospitals' names, in order
    secrets : of their identities, hexadecimal, by name; empty where none is needed
    release : wardround's
    """

    config: str
    names: str
    secrets: dict[str, str]
    release: str

    @classmethod
    def of(cls, population: Population) -> Recipe:
        """The recipe of a simulation's own hospitals."""
        config, secrets = population.config, {}
        for name in population.roster:  # empty where nobody has a key
            identity = population.hospital(name).identity
            assert identity is not None  # made by the population, as its configuration asks
            secrets[name] = identity.secret_bytes().hex()
        return cls(config.to_toml(), _digest(population.names), secrets, _release())

    def to_bytes(self) -> bytes:
        """JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Recipe:
        """The recipe back."""
        return cls(**json.loads(data))

    def population(self) -> Population:
        """The hospitals, here. Raises WardroundError where they would be others."""
        if self.release != _release():
            raise WardroundError(
                f"wardround {_release()} is installed here, the simulation's is {self.release}; "
                "install the same"
            )
        config = parse_config(self.config)
        found = Population(config, make_task(config), self._identities)
        if _digest(found.names) != self.names:
            raise DataError(
                f"{config.data_path() or 'the example data'}: gives other hospitals here than "
                "where the simulation runs; put the same data there"
            )
        return found

    def _identities(self, names: Sequence[str]) -> Identities:
        return {name: Identity.from_bytes(bytes.fromhex(self.secrets[name])) for name in names}


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def _release() -> str:
    return version("wardround")
