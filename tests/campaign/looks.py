"""Settings that mean something together only: other roles of columns, one file that is dealt out,
hospitals left out, a clock, a start from an earlier model, groups that figures are by.

A *look* is drawn as a whole, on top of what ``space.py`` has of single keys; advice then changes
its keys one by one, as a user would.
"""

from __future__ import annotations

from typing import Any

EARLIER = "@earlier"
"""Stands for the model file of an earlier run of the same consortium."""
POOLED = "all.csv"
"""All hospitals' rows as one file, with a column ``hospital`` (``Consortium.pooled``)."""
Look = dict[str, Any]

TABLES = ("binary", "multiclass", "regression", "survival")
_ANY: list[Look] = [
    {"federation.initial": EARLIER},
    {"federation.rounds": 1},
    {"federation.rounds": 4},
    {"simulation.scenario": {"default": {"examples_per_s": 20.0, "latency_s": 1.0}}},
    {"simulation.scenario": {"deadline_s": 30.0, "default": {"examples_per_s": 2.0}}},
    {
        "simulation.scenario": {
            "target": 0.9,
            "default": {"daily": "20:00-18:00", "dropout": 0.1, "upload_bytes_per_s": 1e4},
        }
    },
]
_DEALT: list[Look] = [
    {"simulation.partition": "iid", "simulation.clients": 4},
    {"simulation.partition": "dirichlet", "simulation.alpha": 0.5, "simulation.min_examples": 2},
    {"simulation.partition": "auto", "simulation.clients": 3, "simulation.min_examples": 20},
    {"simulation.partition": "quantity", "simulation.alpha": 2.0, "simulation.min_examples": 1},
    {"simulation.partition": "column", "simulation.column": "hospital"},
    {"simulation.partition": "column", "simulation.column": "smoker", "federation.min_clients": 1},
    {"simulation.partition": "patient", "simulation.clients": 6},
    {"simulation.partition": "feature_shift", "simulation.column": "größe"},
    {"simulation.partition": "feature_shift", "simulation.feature_noise": 0.1},
    {
        "simulation.partition": "virtual",
        "simulation.clients": 300,
        "simulation.rows_per_client": 12,
        "federation.clients_per_round": 20,
    },
]
_ROLES: list[Look] = [
    {"task.columns.categorical": ["ward", "smoker"], "task.columns.binary": []},
    {"task.columns.numeric": ["größe", "wide"]},
    {"task.columns.numeric": ["*"], "task.columns.ignore": ["marker", "lactate"]},
    {"task.columns.numeric": ["größe"], "task.columns.categorical": [], "task.columns.binary": []},
    {"task.columns.positive": {"smoker": ["1"]}, "task.columns.negative": {"smoker": ["0"]}},
    {"task.columns.codes": {"ward": {"one": ["1"], "other": ["2", "3", "9"]}}},
    {"task.columns.codes": {"smoker": {"yes": ["1"], "no": ["0"]}}},
    {"task.columns.expected": {"creatinine": {"median": 1.2, "range": [0.0, 500.0]}}},
    {"task.columns.categories": {"ward": ["1", "2", "3", "9"]}},
    {"simulation.leave_out": ["north"]},
    {"simulation.leave_out": ["rare", "1002"]},
    {"judgement.groups": ["smoker"]},
    {"judgement.groups": ["ward", "größe"], "judgement.bands": {"größe": [165.0, 175.0]}},
    {"judgement.groups": ["smoker"], "judgement.smallest_cell": 10, "judgement.threshold": 0.3},
]
_OF_KIND: dict[str, list[Look]] = {
    "binary": [
        {"task.positive": ["1"], "task.negative": ["0"]},
        {
            "task.columns.codes": {"died": {"dead": ["1"], "alive": ["0"]}},
            "task.positive": ["dead"],
        },
    ],
    "multiclass": [{"task.classes": ["2", "0", "1"]}, {"task.classes": ["0", "1", "2", "3"]}],
    "survival": [{"task.positive": ["1"]}],
    "images2d": [
        {"task.size": [6, 10]},
        {"task.channels": 3},
        {"task.augment.flip": [False, True]},
        {"task.classes": ["spot", "clear", "line"]},
    ],
    "images3d": [
        {"task.size": [6, 8, 8]},
        {"task.window": [-100.0, 900.0]},
        {"task.spacing": [1.0, 1.0, 1.0]},
        {"task.augment.flip": [False, True, True]},
    ],
    "entities": [
        {"task.max_length": 8},
        {"task.tuning": "prompt", "task.prompt_tokens": 3},
        {"task.target_modules": ["query"]},
    ],
    "texts": [
        {"task.max_length": 16},
        {"task.tuning": "prompt", "task.prompt_tokens": 20},
        {"task.classes": ["positive", "negative", "neutral"]},
    ],
    "labels": [{"task.max_length": 16}, {"task.heads": {"urgent": ["yes", "no"]}}],
    "answers": [
        {"task.max_length": 48},
        {"task.choices": ["no", "yes"]},
        {"task.tuning": "prompt", "task.prompt_tokens": 3},
    ],
}


def looks(kind: str) -> list[Look]:
    """What may be drawn for this kind of task."""
    found = _ANY + _OF_KIND.get(kind, [])
    if kind in TABLES:
        found = found + _ROLES + [{"data.path": POOLED} | one for one in _DEALT]
    return found


def looked() -> set[str]:
    """Keys, or tables, that looks have, of whatever kind; and those of other forms of files."""
    every = {key for kind in {*TABLES, *_OF_KIND} for look in looks(kind) for key in look}
    return every | {"task.dialect", "task.missing_values"}
