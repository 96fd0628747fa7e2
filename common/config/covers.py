"""Which of a run's sums carry noise: ``privacy.covers``, and what can't be covered, with the mend.

A purpose is covered where the most that one unit changes its sums is known whatever the rows are,
so that noise can be made for it. Left out, ``covers`` is all that these settings allow: server and
hospital work it out alike, and the answer is in what the parties agree on.
"""

from __future__ import annotations

from wardround.common.config.load import Config
from wardround.common.settings import Purpose, SharesTable

_TRAINS: tuple[Purpose, ...] = ("training", "preparation", "evaluation")
Obstacle = tuple[str, str, str]
"""Key, what stands in the way, mend."""


def covered(config: Config) -> tuple[Purpose, ...]:
    """What is noised and paid for, in the order of ``PURPOSES``; nothing without privacy."""
    if not config.privacy.enabled:
        return ()
    if not config.procedure.trains:
        return ("statistics",)
    asked = config.privacy.covers
    if asked is not None:
        return tuple(one for one in _TRAINS if one in asked)
    return tuple(one for one in _TRAINS if obstacle(config, one) is None)


def covers(config: Config, purpose: Purpose) -> bool:
    """Whether the sums of a purpose carry noise."""
    return purpose in covered(config)


def obstacle(config: Config, purpose: Purpose) -> Obstacle | None:
    """Why a purpose can't be covered in these settings; None where it can."""
    table = config.privacy
    if purpose in ("training", "statistics"):
        return None  # each has checks of its own (incompatible.py; a procedure's ``of``)
    if table.unit == "hospital":
        return (
            "privacy.unit",
            "a hospital may have any number of rows, so no noise hides it in these sums",
            "set 'patient' or 'example'",
        )
    if table.noise == "central":
        return (
            "privacy.noise",
            "the noise of these sums is added where the rows are",
            "set 'local' or 'distributed'",
        )
    return ("privacy.covers", f"there is no private {purpose} yet", "leave it out")


def check_covers(config: Config) -> None:
    """Raise ConfigError for a list that lacks what the study does, or has what can't be."""
    _check_shares(config)
    asked, own = config.privacy.covers, "training" if config.procedure.trains else "statistics"
    if asked is None:
        return
    if own not in asked:
        raise config.error(
            "privacy.covers",
            f"lacks '{own}', and privacy without it would protect nobody",
            f"add '{own}'",
        )
    if not config.procedure.trains:
        return
    for purpose in asked:
        if (found := obstacle(config, purpose)) is not None:
            key, why, mend = found
            raise config.error(
                "privacy.covers",
                f"'{purpose}' can't be covered: {why}"
                + (f" ({key})" if "covers" not in key else ""),
                f"{mend}, or leave '{purpose}' out of privacy.covers",
            )


def _check_shares(config: Config) -> None:
    """Raise ConfigError for a share that nothing has."""
    shares, usual = config.privacy.shares, SharesTable()
    found, given = covered(config), config.privacy.epsilon is not None
    for purpose in ("preparation", "evaluation"):
        if getattr(shares, purpose) != getattr(usual, purpose):
            if not given:
                why, mend = "noise_multiplier is the noise of each", "set epsilon"
            elif purpose not in found:
                why, mend = f"{purpose} isn't covered", "see privacy.covers"
            else:
                continue
            key = f"privacy.shares.{purpose}"
            raise config.error(key, f"has no effect: {why}", f"{mend}, or leave it out")
