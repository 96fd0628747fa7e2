"""Keys that change which rows a run is scored on: scores over other rows rank no settings.

A search that ranks by one score refuses them; a sweep shows them, and stars no row over them.
"""

from __future__ import annotations

SCORED_ROWS = (
    "data",
    "evaluation.clients",
    "federation.min_clients",
    "secure_aggregation.min_cohort",
    "simulation.clients",
    "simulation.partition",
    "simulation.rows_per_client",
    "simulation.column",
    "simulation.alpha",
    "simulation.feature_noise",
    "simulation.min_examples",
    "simulation.scenario",
    "task.name",
    "task.positive",
    "task.classes",
    "task.entities",
    "task.dialect",
    "task.missing",
    "task.missing_values",
    "task.columns.target",
    "task.columns.time",
    "task.columns.event",
    "task.columns.text",
    "task.columns.label",
    "task.columns.patient_id",
    "task.columns.split",
    "task.files",
    "task.burned_in",
    "task.truncate",
    "task.max_length",
)
"""A whole table, or a key. Those of privacy and training change the model alone."""
WHY = "set it with --set, so that all runs are scored on the same rows"


def changes_scored_rows(key: str) -> bool:
    """Whether the dotted key, or one in the table that it names, is one of them."""
    return any(
        key == one or key.startswith(f"{one}.") or one.startswith(f"{key}.") for one in SCORED_ROWS
    )
