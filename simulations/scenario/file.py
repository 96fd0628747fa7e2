"""``scenario.toml``: when a simulation's clients are there, how fast they are, how they fail.

Validated like ``federation.toml``: unknown keys are refused, and an error says file, line, key and
what is allowed. What differs between clients is a number, or a distribution that each client's own
number is drawn from.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, PlainValidator, ValidationError, model_validator

from wardround.common.config.load import Config
from wardround.common.config.source import Source, validation_error
from wardround.common.errors import ConfigError
from wardround.common.settings import Positive, Table

DAY_S = 86_400.0
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


@dataclass(frozen=True)
class Draw:
    """A number of each client: ``first`` for all, or drawn.

    kind : constant; lognormal (``first`` is the median, ``second`` the deviation of the logarithm);
        uniform (from ``first`` to ``second``)
    """

    kind: str
    first: float
    second: float = 0.0

    def sample(self, generator: np.random.Generator, count: int) -> NDArray[np.float64]:
        """One number for each of ``count`` clients."""
        if self.kind == "lognormal":
            return self.first * np.exp(self.second * generator.standard_normal(count))
        if self.kind == "uniform":
            return self.first + (self.second - self.first) * generator.random(count)
        return np.full(count, self.first)


def _draw(value: Any, positive: bool = True, most: float = math.inf) -> Draw:
    """A Draw from what stands in the file. ValueError says what may stand there."""
    found = value if isinstance(value, dict) else {"constant": value}
    numbers = [x for x in found.values() if isinstance(x, int | float) and math.isfinite(x)]
    if len(numbers) == len(found) and not any(isinstance(x, bool) for x in numbers):
        low, high = min(numbers, default=0.0), max(numbers, default=0.0)
        within = (low > 0 if positive else low >= 0) and high < most
        match sorted(found):
            case ["constant"] if within:
                return Draw("constant", float(value))
            case ["high", "low"] if within and found["low"] <= found["high"]:
                return Draw("uniform", float(found["low"]), float(found["high"]))
            case ["median", "sigma"] if found["median"] > 0 <= found["sigma"] and most == math.inf:
                return Draw("lognormal", float(found["median"]), float(found["sigma"]))
    bound = ("above 0" if positive else "from 0") + (f" to below {most:g}" if most < 1e300 else "")
    lognormal = ", { median = ..., sigma = ... }" if most == math.inf else ""
    raise ValueError(
        f"must be a number {bound}{lognormal} or {{ low = ..., high = ... }} (found {value!r:.60})"
    )


def _window(text: str) -> str:
    if text and not (_WINDOW.fullmatch(text) and text[:5] != text[6:]):
        raise ValueError(f"must be like '08:00-18:00' (found {text!r:.60})")
    return text


Rate = Annotated[Draw, PlainValidator(_draw)]
Time = Annotated[Draw, PlainValidator(partial(_draw, positive=False))]
Probability = Annotated[Draw, PlainValidator(partial(_draw, positive=False, most=1.0))]


class ClientTable(Table):
    """``[default]`` and ``[clients.NAME]``: what a client is like. What isn't said takes no time.

    latency_s : of a request and its reply together
    dropout : probability per round; without it ``simulation.dropout``
    daily : 'HH:MM-HH:MM', when the client is there each day; the simulation starts at midnight
    """

    examples_per_s: Rate | None = None
    download_bytes_per_s: Rate | None = None
    upload_bytes_per_s: Rate | None = None
    latency_s: Time | None = None
    dropout: Probability | None = None
    arrives_s: Time | None = None
    leaves_s: Rate | None = None
    daily: Annotated[str, AfterValidator(_window)] = ""

    @model_validator(mode="after")
    def _comes_before_it_goes(self) -> ClientTable:
        arrives, leaves = self.arrives_s, self.leaves_s
        if leaves and arrives and arrives.first >= leaves.first:
            raise ValueError("leaves_s must be later than arrives_s")
        return self

    def window_s(self) -> tuple[float, float] | None:
        """Seconds of the day when the client comes and goes; None: it is always there."""
        found = _WINDOW.fullmatch(self.daily)
        if found is None:
            return None
        h, m, h_end, m_end = (float(part) for part in found.groups())
        return 3600 * h + 60 * m, 3600 * h_end + 60 * m_end


class ScenarioTable(Table):
    """A whole scenario.

    deadline_s : a client that needs longer in a round is late, and not counted
    target : the primary figure whose simulated time is wanted
    """

    deadline_s: Positive | None = None
    target: float | None = Field(None, allow_inf_nan=False)
    default: ClientTable = ClientTable()
    clients: dict[str, ClientTable] = {}


@dataclass(frozen=True)
class ScenarioFile:
    """A valid scenario, its TOML tables, and how to speak of a key of it."""

    table: ScenarioTable
    tables: dict[str, Any]
    error: Callable[[str, str], ConfigError]


def load_scenario(config: Config) -> ScenarioFile | None:
    """The scenario that ``simulation.scenario`` names or holds; None without one.

    Raises ConfigError naming file, line, key and what is allowed.
    """
    value = config.simulation.scenario
    if isinstance(value, dict):
        try:
            table = ScenarioTable.model_validate(value)
        except ValidationError as error:
            raise config.options_error(error, "simulation.scenario.", ScenarioTable) from None
        return ScenarioFile(
            table, value, lambda key, text: config.error(f"simulation.scenario.{key}", text)
        )
    return _read(config, value) if value else None


def _read(config: Config, name: str) -> ScenarioFile:
    path = config.folder / name
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else "can't be read"
        raise config.error(
            "simulation.scenario", f"{path}: {why}; the path is meant from the configuration's"
        ) from None
    source = Source(text, path)
    try:
        table = ScenarioTable.model_validate(tables)
    except ValidationError as error:
        raise validation_error(error, source.place, ScenarioTable) from None
    return ScenarioFile(
        table, tables, lambda key, text: ConfigError(f"{source.place(key)}{key}: {text}")
    )


def inlined(config: Config, scenario: ScenarioFile | None) -> Config:
    """The configuration with its scenario in it: a run that is resumed keeps the one it began
    with."""
    if scenario is None:
        return config
    table = config.simulation.model_copy(update={"scenario": scenario.tables})
    return config.model_copy(update={"simulation": table})
