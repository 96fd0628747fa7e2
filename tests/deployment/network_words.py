"""What the tests' network, its studies, its hospitals' rules and their rows are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

HOSPITALS = ("east", "north", "south")
RESEARCHERS = ("anna", "bert")
NETWORK = """
[federation]
name = "trusts"
[server]
address = "localhost:{port}"
listen = "127.0.0.1:{port}"
hospitals = ["east", "north", "south"]
researchers = ["anna", "bert"]
heartbeat_s = 0.4
lease_s = 2.5
[network]
at_once = {at_once}
lease_s = {lease_s}
database = "{database}"
"""
STUDY = """
[study]
name = "{name}"
purpose = "Does the first number tell who is ill?"
hospitals = {hospitals}
{ends}
[federation]
rounds = {rounds}
min_clients = {fewest}
round_timeout_s = 30
round_attempts = 20
retry_wait_s = 0.2
[task.columns]
target = "{target}"
numeric = ["first", "second"]
patient_id = "patient"
[training]
lr = {lr}
[secure_aggregation]
enabled = {secure}
{more}
"""
LINKED = """
[study]
name = "{name}"
purpose = "Which persons have both?"
hospitals = ["east", "north"]
[federation]
round_timeout_s = 30
round_attempts = 20
retry_wait_s = 0.2
[task]
name = "linked"
[task.identifiers]
number = "exact"
[task.parties.east]
numeric = ["marker"]
[task.parties.north]
numeric = ["age"]
outcome = "died"
{more}
"""
SITE = """
require_secure_aggregation = false
approval = "always"
procedures = ["train", "describe", "evaluate", "statistics", "trees", "linkage", "vertical"]
max_linkages = 1000
groups = ["old"]
smallest_cell = 3
{}
[data.persons]
path = "../../../persons-{name}.csv"
[studies."joint-*"]
data = "persons"
[studies."asked-*"]
approval = "ask"
[studies."private-*"]
max_epsilon_total = 1e9
{}
"""
"""Every hospital's, around what its kit came with; studies named so wait for a person."""
ALL = os.environ.get("FAULTS") == "all"
"""`make chaos`: every fault; with the suite runs what costs little for what it shows."""
Sort = dict[str, Any]
MASKED: Sort = {"secure": True}
PAIR: Sort = {"hospitals": ("east", "north"), "target": "old"}
SORTS: dict[str, Sort] = {"plain": {}, "masked": MASKED, "pair": PAIR}
"""By how names begin: what all asked hospitals must take part in, so that one model comes out."""
DESCRIBE = '[procedure]\nname = "describe"\n'
STATISTICS = """[procedure]
name = "statistics"
[[procedure.analyses]]
name = "both"
kind = "crosstab"
rows = "ill"
columns = "old"
"""
TREES = '[procedure]\nname = "trees"\nrounds = 2\nmax_depth = 2\nsmallest_leaf = 3\n'
JUDGED = '[judgement]\ngroups = ["old"]\ncategories = { old = ["0", "1"] }\nsmallest_cell = 3\n'
LINK = """[procedure]
name = "linkage"
used_by = [{users}]
"""
VERTICAL = """[procedure]
name = "vertical"
model = "logistic"
link = "{link}"
padded = 40
"""
ASKED: dict[str, Sort] = {
    "describe": {"secure": True, "more": DESCRIBE},
    "statistics": {"secure": True, "more": STATISTICS},
    "trees": {"secure": True, "more": TREES},
}
"""Procedures whose results are the same bytes whenever they are asked."""
PUBLISHED = {
    **{"describe": "description.json", "statistics": "statistics.json", "trees": "trees.json"},
    "joint-vertical": "vertical.json",
}
"""Which file has the answer of a procedure, by how studies' names begin."""


def write_rows(path: Path, seed: int, rows: int) -> None:
    """Unlike hospitals: another number of rows, another mean, another share of the ill."""
    draw = np.random.default_rng(seed)
    lines = ["first,second,patient,ill,old"]
    for number in range(rows):
        x, y = draw.normal(seed % 3, 1 + seed % 2, size=2)
        ill = int(x - 0.5 * y + draw.normal() > seed % 3)
        lines.append(f"{x:.4f},{y:.4f},p{seed}-{number // 2},{ill},{int(y > seed % 3)}")
    path.write_text("\n".join(lines) + "\n")


def write_persons(folder: Path) -> None:
    """Sixty persons; east has the first fifty with a marker, north the last fifty with the rest."""
    draw = np.random.default_rng(7)
    east, north = ["number,marker"], ["number,age,died"]
    for number in range(60):
        marker, age = draw.normal(), draw.normal(60, 9)
        died = int(marker + (age - 60) / 9 + draw.normal() > 0)
        if number < 50:
            east.append(f"{number:05d}x,{marker:.4f}")
        if number >= 10:
            north.append(f"{number:05d}x,{age:.1f},{died}")
    for name, lines in (("east", east), ("north", north), ("south", ["number"])):
        (folder / f"persons-{name}.csv").write_text("\n".join(lines) + "\n")
