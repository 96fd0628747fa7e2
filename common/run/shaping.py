"""A run's identity: the settings that shape its model. Those that don't may change while it lives.

Every key is declared here, once: a run that is gone on with must agree with how it began in all
that shapes its model, and in nothing else. Options of tasks, strategies and procedures all shape
it. Paths count by their last part, so that a folder may move. What hospitals have accepted is
another matter: the run manifest is held against their rules whenever the server starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError
from wardround.common.run.directory import RunDirectory
from wardround.common.settings import without_folders
from wardround.common.versions import own_version

SHAPES: dict[str, tuple[str, ...]] = {
    "federation": (
        "name",
        "seed",
        "rounds",
        "clients_per_round",
        "initial",
        "pace",
        "buffer",
        "max_staleness",
    ),
    "data": ("test_fraction", "validation_fraction"),
    "task": ("name",),
    "training": (
        "optimizer",
        "lr",
        "schedule",
        "lr_decay",
        "step_rounds",
        "warmup_rounds",
        "momentum",
        "weight_decay",
        "batch_size",
        "local_epochs",
        "local_steps",
        "max_grad_norm",
        "distillation",
        "distillation_temperature",
        "precision",
    ),
    "strategy": ("name", "weighting", "personal_layers"),
    "secure_aggregation": (
        "enabled",
        "bits",
        "clip",
        "max_examples",
        "colluding",
        "blind",
        "scheme",
        "degree",
    ),
    "privacy": (
        "unit",
        "noise",
        "epsilon",
        "delta",
        "noise_multiplier",
        "clipping",
        "clipping_norm",
        "target_quantile",
        "clipping_lr",
        "records_per_patient",
        "size_noise",
        "covers",
        "shares",
    ),
    "compression": ("bits", "first_scale", "rotation"),
    "evaluation": ("every", "clients", "select", "patience"),
    "procedure": ("name",),
    "simulation": (
        "clients",
        "partition",
        "rows_per_client",
        "column",
        "alpha",
        "feature_noise",
        "min_examples",
        "leave_out",
        "vertical_overlap",
        "dropout",
        "unmask_dropout",
        "scenario",
    ),
    "server": (),
    "cohort": ("index", "variables"),
    "judgement": ("groups", "bands", "categories", "smallest_cell", "threshold"),
    "teacher": ("model_digest", "weight", "temperature"),
    "tracking": (),
}
"""Keys by table. Others of these tables are options of a task, a strategy or a procedure, or
operational."""

OPERATIONAL: dict[str, tuple[str, ...]] = {
    "federation": ("min_clients", "round_timeout_s", "round_attempts", "retry_wait_s", "runs"),
    "data": ("path",),
    "task": (),
    "training": ("device", "processes", "micro_batch_size", "checkpoint_activations", "compile"),
    "strategy": (),
    "secure_aggregation": ("threshold", "min_cohort", "threads"),
    "privacy": ("epsilon_limit", "engine"),
    "compression": (),
    "evaluation": (),
    "cohort": (),
    "judgement": (),
    "teacher": ("model",),
    "procedure": (),
    "simulation": ("baselines", "threads", "executor", "masks", "ray_address"),
    "tracking": ("to", "folder", "mlflow"),
    "server": (
        "address",
        "listen",
        "dashboard_hosts",
        "dashboard",
        "hospitals",
        "researchers",
        "coordinators",
        "description_days",
        "folder",
        "wait_s",
        "heartbeat_s",
        "lease_s",
        "max_message_mb",
        "max_spool_mb",
        "max_connections",
    ),
}
"""Keys by table that say how, where and how patiently a run is made."""

_MANY = 4
_PATHS = ("federation.initial", "task.name", "strategy.name", "simulation.scenario")


def shaping(config: Config, deployed: bool) -> dict[str, Any]:
    """The settings that shape a run's model, by dotted key; ``[simulation]`` is no part of a
    ``deployed`` one."""
    tables = config.model_dump(mode="json")
    # who asks, of whom, of which machine, and what people say of the model
    del tables["network"], tables["study"], tables["needs"], tables["card"]
    if config.cohort is None:  # as it was before there were cohorts
        del tables["cohort"]
    for name in ("judgement", "teacher"):
        if getattr(config, name) is None:  # likewise
            del tables[name]
    if not config.compression.enabled:  # likewise
        del tables["compression"]
    tables["task"] = without_folders(config.task.name, tables["task"])
    tables["procedure"] = config.procedure.shared()
    found: dict[str, Any] = {}
    for table, values in tables.items():
        if not (deployed and table == "simulation"):
            kept = {k: v for k, v in values.items() if k not in OPERATIONAL[table]}
            found |= flat(table, kept)
    for key in _PATHS:
        if isinstance(value := found.get(key), str):
            found[key] = PurePath(value).name
    return found


def digest(config: Config, deployed: bool) -> str:
    """SHA-256 of what ``shaping`` gives, hexadecimal: the run's identity."""
    values = json.dumps(shaping(config, deployed), sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()


def check_same(begun: Config, now: Config, deployed: bool, who: str) -> None:
    """Raise ConfigError, by key with both values, if a run that was begun with one configuration
    can't be gone on with by the other."""
    if others := differences(shaping(begun, deployed), shaping(now, deployed)):
        raise ConfigError(
            f"this run was begun with other settings: {others}",
            who=who,
            mend="restore them, or begin another run" + (" with --new" if deployed else ""),
        )


def differences(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Keys and both values of what differs, e.g. 'training.lr was 0.1, is 0.2'; '' if nothing."""
    before, after = flat("", before), flat("", after)
    others = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    lines = [f"{key} was {_shown(before, key)}, is {_shown(after, key)}" for key in others[:_MANY]]
    more = f" (and {len(others) - _MANY} more)" if len(others) > _MANY else ""
    return ", ".join(lines) + more


def check_unedited(run: RunDirectory, begun: Config) -> None:
    """Raise ConfigError if the run's own ``config.toml`` isn't the one it began with any more."""
    identity = run.summary().get("identity")
    same_version = run.environment().get("wardround", "").partition("+")[0] == own_version()
    if same_version and identity not in (None, digest(begun, run.deployed)):
        raise ConfigError(
            "was edited in what shapes the model",
            who=str(run.config_path),
            mend="put it back, or begin another run",
        )


def flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Tables within tables as one, by dotted key.

    >>> flat("", {"training": {"lr": 0.1}})
    {'training.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        found |= flat(name, value) if isinstance(value, dict) else {name: value}
    return found


def _shown(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    text = "left out" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
