"""Which keys of ``federation.toml`` have an effect only together with another one.

A new key either has a line here, or works whatever the others are. Options of tasks have theirs
beside them (``common/tasks/options.py``).
"""

from __future__ import annotations

from wardround.common.settings.effects import Effect
from wardround.common.settings.protection import PrivacyTable, SecureAggregationTable

_UNWEIGHTED = ("fedmedian", "fedtrimmedavg", "krum", "bulyan")

EFFECTS = (
    Effect("federation.retry_wait_s", "federation.round_attempts", (1,), but=True),
    Effect("federation.clients_per_round", "federation.pace", ("synchronous",)),
    Effect("federation.buffer", "federation.pace", ("buffered",)),
    Effect("federation.max_staleness", "federation.pace", ("buffered",)),
    Effect("training.lr_decay", "training.schedule", ("exponential", "step")),
    Effect("training.step_rounds", "training.schedule", ("step",)),
    Effect("training.momentum", "training.optimizer", ("sgd",)),
    Effect("training.local_epochs", "training.local_steps", (None,)),
    Effect("training.distillation_temperature", "training.distillation", (0.0,), but=True),
    Effect("strategy.weighting", "strategy.name", _UNWEIGHTED, but=True),
    *(
        Effect(f"secure_aggregation.{key}", "secure_aggregation.enabled", (True,))
        for key in SecureAggregationTable.model_fields
        if key != "enabled"
    ),
    Effect("secure_aggregation.degree", "secure_aggregation.scheme", ("ckks",)),
    *(
        Effect(f"privacy.{key}", "privacy.unit", ("example", "patient", "hospital"))
        for key in PrivacyTable.model_fields
        if key != "unit"
    ),
    Effect("privacy.target_quantile", "privacy.clipping", ("adaptive",)),
    Effect("privacy.clipping_lr", "privacy.clipping", ("adaptive",)),
    Effect("privacy.records_per_patient", "privacy.unit", ("patient",)),
    Effect("privacy.size_noise", "privacy.unit", ("example", "patient")),
    Effect("privacy.engine", "privacy.unit", ("example", "patient")),
    Effect("compression.first_scale", "compression.bits", (8, 16)),
    Effect("compression.rotation", "compression.bits", (8, 16)),
    Effect("simulation.clients", "simulation.partition", ("sites", "column", "vertical"), but=True),
    Effect("simulation.rows_per_client", "simulation.partition", ("virtual",)),
    Effect("simulation.column", "simulation.partition", ("column", "feature_shift")),
    Effect(
        "simulation.alpha",
        "simulation.partition",
        ("auto", "dirichlet", "quantity", "feature_shift", "virtual"),
    ),
    Effect("simulation.min_examples", "simulation.partition", ("sites", "virtual"), but=True),
    Effect("simulation.vertical_overlap", "simulation.partition", ("auto", "vertical")),
    Effect("simulation.unmask_dropout", "secure_aggregation.enabled", (True,)),
    Effect("simulation.masks", "secure_aggregation.enabled", (True,)),
    Effect("simulation.ray_address", "simulation.executor", ("ray",)),
)
