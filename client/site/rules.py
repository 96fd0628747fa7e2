"""What the keys of ``site.toml`` say of a plan: each refusal names its key and both values.

What they can't say by themselves (that the manifest is of this federation and promises what this
program does) is in ``plan_checks.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from wardround.client.privacy.entries import Entry, Spent
from wardround.client.site.hold_back import check_held_back, is_allowed
from wardround.client.site.joint_rules import check_joint
from wardround.client.site.plan_checks import check_plan
from wardround.client.site.policy import SitePolicy
from wardround.client.site.privacy_limits import check_privacy
from wardround.common.config.load import Config
from wardround.common.errors import PrivacyRefused, ProtocolRefused
from wardround.common.manifest.manifest import Manifest
from wardround.common.manifest.planned import file_sha256
from wardround.common.secagg.graph import thresholds
from wardround.common.settings import (
    TRAIN,
    DescribeOptions,
    EvaluateOptions,
    SplitOptions,
    StatisticsOptions,
    TreesOptions,
    VerticalOptions,
)
from wardround.common.study.study import Study
from wardround.common.trust.description import Description


def check_rules(
    site: SitePolicy,
    manifest: Manifest,
    description: Description,
    config: Config,
    units: int | None = None,
    study: Study | None = None,
    taken: bool = False,
    here: str = "",
) -> None:
    """Raise PolicyRefused, naming key and both values, unless the rules allow the plan.

    Parameters
    ----------
    description : the federation's, from this hospital's own kit
    config : this hospital's settings, from ``apply``
    units : that this hospital announces of its training part, for epsilon where only the noise is
        configured; None: as many as would cost most
    study : of a network, that the plan is of
    taken : it is computed on a snapshot, which has the allowed columns only
    here : this hospital's name: of a joint procedure, which party it is
    """
    if study is not None:
        _allowed(site, "researchers", "researcher", study.researcher)
    check_held_back(site, config, taken)
    _allowed(site, "federations", "federation", manifest.federation)
    _allowed(site, "tasks", "task", manifest.task)
    _allowed(site, "procedures", "procedure", manifest.procedure)
    if isinstance(config.procedure.settings, SplitOptions) and not site.split_networks:
        raise site.refused(
            "split_networks",
            "this hospital allows none (false), the run is a split network, in which numbers of "
            "single persons cross",
        )
    if config.procedure.trains:
        _allowed(site, "model_families", "model family", manifest.model_family)
    check_joint(site, config, here)
    _check_cells(site, config)
    if manifest.rounds > site.max_rounds:
        raise site.refused(
            "max_rounds",
            f"this hospital allows {site.max_rounds} rounds, the run plans {manifest.rounds}",
        )
    if ":" in manifest.task:
        _check_task_file(site, manifest, config)
    if not config.procedure.joint:  # it has no sums: what leaves is sealed for other parties
        _check_secure(site, manifest, config)
    check_privacy(site, manifest, config, units)
    check_plan(manifest, description, config, study)


def _allowed(site: SitePolicy, key: str, what: str, name: str) -> None:
    patterns: list[str] = getattr(site, key)
    if not is_allowed(patterns, name):
        allowed = ", ".join(patterns) or "none"
        asked = f"the run's {what} is '{name}'"
        told = f"{asked}, and this hospital's rules don't allow that"
        raise site.refused(key, f"this hospital allows {allowed}, {asked}", told)


def _check_cells(site: SitePolicy, config: Config) -> None:
    if (table := config.judgement) is not None:
        for name in table.groups:
            _allowed(site, "groups", "column to judge by", name)
        if table.smallest_cell < site.smallest_cell:
            raise site.refused(
                "smallest_cell",
                f"this hospital allows counts of {site.smallest_cell} persons or more, the run "
                f"would show {table.smallest_cell} (judgement.smallest_cell)",
            )
    options = config.procedure.settings
    trees = isinstance(options, TreesOptions)
    what = "procedure.smallest_leaf" if trees else "procedure.smallest_cell"
    if isinstance(options, EvaluateOptions) and not options.disturbs:
        return
    if (
        isinstance(
            options,
            DescribeOptions | EvaluateOptions | StatisticsOptions | TreesOptions | VerticalOptions,
        )
        and options.smallest_cell < site.smallest_cell
    ):
        raise site.refused(
            "smallest_cell",
            f"this hospital allows counts of {site.smallest_cell} persons or more, the run would "
            f"show {options.smallest_cell} ({what})",
        )


def _check_task_file(site: SitePolicy, manifest: Manifest, config: Config) -> None:
    found = file_sha256(site.task_file(config))
    if found != manifest.task_sha256:
        raise site.refused(
            "task_files",
            f"this hospital's copy of '{manifest.task}' has SHA-256 {found[:16]}..., the "
            f"server's {manifest.task_sha256[:16] or 'none'}...; compare the two files",
            f"this hospital's copy of '{manifest.task}' isn't the server's, of SHA-256 "
            f"{manifest.task_sha256[:16] or 'none'}...; compare the two files",
        )


def _check_secure(site: SitePolicy, manifest: Manifest, config: Config) -> None:
    table = manifest.secure_aggregation
    if not table.enabled:
        if site.require_secure_aggregation:
            raise site.refused(
                "require_secure_aggregation",
                "this hospital requires it (true), the run has secure_aggregation.enabled = false",
            )
        _check_blind(site, manifest)
        return
    _check_blind(site, manifest)
    if config.privacy.noise == "distributed" and (site.colluding or 0) > table.colluding:
        raise site.refused(
            "colluding",
            f"this hospital assumes {site.colluding}, the run's shares of noise are planned "
            f"for {table.colluding}",
        )
    for hospitals in {manifest.cohort, len(manifest.roster)}:
        _check_group(site, manifest, hospitals, config.secure_aggregation.colluding)


def _check_blind(site: SitePolicy, manifest: Manifest) -> None:
    trains, table = manifest.procedure == TRAIN, manifest.secure_aggregation
    if site.require_blind and trains and not (table.enabled and table.blind):
        raise site.refused(
            "require_blind",
            "this hospital requires it (true), and the run's server can read the sum of updates; "
            "set secure_aggregation.blind = true in the federation's settings",
        )


def _check_group(site: SitePolicy, manifest: Manifest, hospitals: int, colluding: int) -> None:
    """A sum over so many hospitals must be one that this hospital will help to open.

    The fewest that it may be opened of are those of the manifest's own table, which all keep
    to; who may collude is as this hospital assumes.
    """
    table = manifest.secure_aggregation
    try:
        found = thresholds(hospitals, table.threshold, table.colluding, table.min_cohort)
    except ProtocolRefused as error:
        raise site.refused("colluding", str(error)) from None
    if found.survivors < site.min_cohort:
        raise site.refused(
            "min_cohort",
            f"this hospital allows sums of at least {site.min_cohort} hospitals, the run may "
            f"open one of {found.survivors} (of {hospitals})",
        )
    try:
        found.check(colluding, site.min_cohort)
    except ProtocolRefused as error:
        raise site.refused(
            "colluding", f"this hospital assumes {colluding}, the run's {error}"
        ) from None


def check_spent(site: SitePolicy, entries: Iterable[Entry], config: Config, run: str) -> None:
    """Before a training request of a private run: would one more round like the last pass
    ``max_epsilon_per_run``? A round that is repeated costs again, so a plan can be overrun.

    Parameters
    ----------
    entries : of this hospital's ledger

    Raises PrivacyRefused.
    """
    limit, table = site.max_epsilon_per_run, config.privacy
    if limit is None or not table.enabled:
        return
    here = [x for x in entries if x.federation == config.federation.name]
    sizes, rounds = ([x for x in here if x.run == name] for name in ("", run))
    again = [x for x in rounds if x.purpose not in ("preparation", "evaluation")]
    after = Spent([*sizes, *rounds, *again[-1:]]).epsilon(table.unit, table.delta)
    if after > limit:
        refused = site.refused(
            "max_epsilon_per_run",
            f"this hospital allows epsilon {limit:g}, with another round the run has {after:.4g}",
        )
        raise PrivacyRefused(
            str(refused), told="this hospital's limit of epsilon forbids a round more"
        )
