"""The configuration that many runs vary, and the check of a variation before anything runs.

The base need not be valid by itself: ``privacy.epsilon`` may come from the sweep alone. So its text
is kept, and each variation is that text with the settings put over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.common.config.load import Config, config_text, parse_config
from wardround.common.config.task import make_task
from wardround.common.durable.files import sync
from wardround.common.errors import ConfigError, RunDirectoryError, WardroundError
from wardround.server.strategies import build_strategy
from wardround.simulations.default import default_config_text
from wardround.simulations.search.values import Settings, overrides, shown

OWN_KEYS = {"federation.runs": "leave it to the sweep, or set it with --set"}
"""Keys that no search may vary, with the mend."""


@dataclass(frozen=True)
class Base:
    """A configuration's text, where it stood, and the overrides that hold for every run."""

    text: str
    path: Path | None
    sets: tuple[str, ...] = ()

    @classmethod
    def read(cls, config: Config | Path | str | None, sets: Sequence[str] = ()) -> Base:
        """From what ``simulate`` takes. Raises ConfigError."""
        if isinstance(config, Config):
            if sets:
                raise ConfigError("--set: overrides go with a file, not with a finished Config")
            return cls(config.to_toml(), None)
        if config is None:
            return cls(default_config_text(), None, tuple(sets))
        return cls(config_text(Path(config)), Path(config), tuple(sets))

    def config(self, settings: Settings) -> Config:
        """The configuration with the settings put over it. Raises ConfigError."""
        return parse_config(self.text, [*self.sets, *overrides(settings)], self.path)

    def checked(self, settings: Settings, option: str) -> Config:
        """As ``config``, with task and strategy built once: their options are right as well.

        Raises WardroundError subclasses in one line that begins with ``option`` and the settings
        that are wrong; a mistake of the base is told as it is.
        """
        try:
            return _built(self.config(settings))
        except WardroundError as error:
            if str(error) != self._own_mistake():
                text = str(error).removeprefix("--set ")
                wrong = [k for k in settings if text.startswith(f"{k}:")]
                wrong = wrong or [k for k in settings if k in text] or list(settings)
                named = " ".join(f"{option} {key}={shown(settings[key])}" for key in wrong)
                raise type(error)(f"{named}: {text}") from None
            raise

    def _own_mistake(self) -> str | None:
        try:
            _built(self.config({}))
        except WardroundError as error:
            return str(error)
        return None


def _built(config: Config) -> Config:
    make_task(config)
    build_strategy(config)
    return config


def refuse_own_keys(keys: Sequence[str], option: str, own: dict[str, str]) -> None:
    """Raise ConfigError for a key that the search itself sets, with the mend."""
    for key in keys:
        if key in own:
            raise ConfigError(f"{option} {key}: can't be varied; {own[key]}")


def make_folder(parent: Path, stem: str) -> Path:
    """A new folder ``stem`` (or ``stem-2``, ...) below ``parent``. Raises RunDirectoryError."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 1000):
            path = parent / (stem + (f"-{attempt}" if attempt > 1 else ""))
            try:
                path.mkdir()
            except FileExistsError:
                continue
            sync(parent)
            return path
    except OSError as error:
        raise RunDirectoryError(
            f"{parent}: can't make a folder ({error.strerror}); set federation.runs"
        ) from None
    raise RunDirectoryError(f"{parent}: too many runs of this second")
