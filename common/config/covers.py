"""Which of a run's sums carry noise: ``privacy.covers``, and what can't be covered, with the mend.

A purpose is covered where the most that one unit changes its sums is known whatever the rows are,
so that noise can be made for it. Left out, ``covers`` is all that these settings allow: server and
hospital work it out alike, and the answer is in what the parties agree on.
"""

from __future__ import annotations

import weakref

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.settings import Purpose, SharesTable, is_built_in
from wardround.common.tasks import built_in
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.private_table import all_declared, why_not
from wardround.common.tasks.tabular import TabularTask

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
    found = (one for one in _TRAINS if obstacle(config, one) is None)
    return tuple(one for one in found if not _wants_asking(config, one))


def covers(config: Config, purpose: Purpose) -> bool:
    """Whether the sums of a purpose carry noise."""
    return purpose in covered(config)


def noised_sums(config: Config) -> frozenset[str]:
    """Of 'preparation' and 'evaluation', whose sums have noise on them in a study that trains; of
    a preparation that holds nothing of the rows there is none."""
    nothing = set[str]() if prepares(config) else {"preparation"}
    return frozenset(covered(config)) & {"preparation", "evaluation"} - nothing


def prepares(config: Config) -> bool:
    """Whether the preparation sums anything of the rows: what is covered and empty costs nothing,
    as of texts, or of images that aren't put to scale."""
    if not is_built_in(config.task.name):
        return True
    if config.task.name == "imaging":
        return make_task(config).phases > 0
    return built_in(config.task.name).preparation_reads_rows


def obstacle(config: Config, purpose: Purpose) -> Obstacle | None:
    """Why a purpose can't be covered in these settings; None where it can."""
    table = config.privacy
    if purpose == "training":
        return None  # it has checks of its own (incompatible.py)
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
    if purpose == "statistics":
        return None  # what stands in the way of one procedure it says itself (``Procedure.of``)
    return _of_figures(config) if purpose == "evaluation" else _unprepared(config)


def _unprepared(config: Config) -> Obstacle | None:
    """Why no noise can be made for the sums of the task's preparation."""
    if not is_built_in(config.task.name):
        return (
            "task.name",
            "a task of one's own says no bound on what a row adds to its sums",
            "use a built-in task",
        )
    if config.task.name != "tabular":
        return None  # pixels are bounded; of texts nothing is summed
    return why_not(_table(config))


def _wants_asking(config: Config, purpose: Purpose) -> bool:
    """Whether a purpose is covered only where somebody names it: columns without a declared range
    take many units, and a run of few would end; a task of one's own may say no bounds."""
    if purpose == "evaluation":
        return not is_built_in(config.task.name)
    is_table = purpose == "preparation" and config.task.name == "tabular"
    return is_table and not all_declared(_table(config))


def _table(config: Config) -> TabularOptions:
    """The task's options; kept of the last settings, of which every request asks some ten times."""
    global _kept
    before = _kept
    if before is not None and before[0]() is config:
        return before[1]
    task = make_task(config)
    assert isinstance(task, TabularTask)
    _kept = (weakref.ref(config), task.options)
    return task.options


_kept: tuple[weakref.ref[Config], TabularOptions] | None = None


def _of_figures(config: Config) -> Obstacle | None:
    """Why figures can't carry noise, by the settings alone; a task of one's own says itself whether
    they can (``common/privacy/figures.py``)."""
    options = config.task.options
    if config.judgement is not None:
        return ("judgement", "it adds up to exact figures of the same rows", "remove [judgement]")
    if config.task.name != "tabular":
        return None
    if options.get("kind") == "survival":
        return (
            "task.kind",
            "a row is in a pair with each other one, and may turn all of them round",
            "set another kind",
        )
    local, missing = options.get("normalise", "federated"), options.get("missing", "median")
    if local == "local" or (local == "none" and missing == "median"):
        return (
            "task.normalise",
            "inputs follow from a hospital's own training rows, which pay for no figures",
            "set task.normalise = 'federated', or task.missing to 'drop' with 'none'",
        )
    return None


def check_statistics(config: Config) -> None:
    """Raise ConfigError for a study that trains nothing where no noise protects the unit."""
    if config.privacy.enabled and (found := obstacle(config, "statistics")) is not None:
        key, why, mend = found
        raise config.error(key, why, mend)


def check_covers(config: Config) -> None:
    """Raise ConfigError for a list that lacks what the study does, or has what can't be."""
    _check_shares(config)
    if not config.procedure.trains:
        check_statistics(config)
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
            elif purpose == "preparation" and not prepares(config):
                why, mend = "nothing of the rows is summed", "nothing is to be shared"
            else:
                continue
            key = f"privacy.shares.{purpose}"
            raise config.error(key, f"has no effect: {why}", f"{mend}, or leave it out")
