"""Unlike hospitals for statistics, and what they are together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tomli_w

from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.procedures.known import make_procedure
from wardround.common.procedures.procedure import Asked
from wardround.common.secagg.encoding import decode_exact, encode_exact
from wardround.common.secagg.ring import add_limbs
from wardround.common.tasks.data.table import Table


def hospitals(seed: int = 0, rows: Sequence[int] = (400, 33, 150, 1)) -> list[pd.DataFrame]:
    """Of one hospital 33 rows, without a woman and without an event; of the last one row. ``dose``
    is constant at the second; ``site`` C is at the third alone; ``weight`` has gaps."""
    rng, found = np.random.default_rng(seed), []
    for place, count in enumerate(rows):
        age = rng.normal(60 + 5 * place, 12, count).round(1)
        sex = np.where(rng.random(count) < 0.5, "f", "m")
        dose = rng.exponential(3.0, count).round(2)
        stage = rng.choice(["A", "B"] if place != 2 else ["A", "B", "C"], count)
        time = np.ceil(rng.exponential(400 / (1 + (stage == "B")), count))
        event = (rng.random(count) < 0.4 + 0.2 * (sex == "f")).astype(int)
        if place == 1:
            sex[:], event[:], dose[:] = "m", 0, 2.5
        weight = rng.normal(75, 15, count).round(1)
        weight[rng.random(count) < 0.1] = np.nan
        score = rng.poisson(np.exp(0.5 + 0.01 * (age - 60)))
        frame = dict(age=age, sex=sex, dose=dose, stage=stage, time=time, event=event)
        found.append(pd.DataFrame(frame | dict(weight=weight, score=score)))
    return found


def tables(frames: Sequence[pd.DataFrame]) -> list[Table]:
    """Each as a hospital's table."""
    found = []
    for frame in frames:
        data = pa.Table.from_pandas(frame, preserve_index=False)
        plain = Table.of({"row": list(range(len(frame)))}, Path("rows.csv"))
        found.append(replace(plain, data=data))
    return found


def asked(
    frames: Sequence[pd.DataFrame],
    *analyses: Mapping[str, Any],
    settings: str = "",
    noise: float = 0.0,
) -> dict[str, str]:
    """What ``statistics`` publishes of these hospitals: its own steps, over the ring of exact sums,
    each question worked out anew by every hospital."""
    written = tomli_w.dumps(
        {"procedure": {"name": "statistics", "analyses": [dict(one) for one in analyses]}}
    )
    config = parse_config(f"{settings}\n{written}")
    task = make_task(config)
    shards = [{"train": one} for one in tables(frames)]
    earlier: list[dict[str, Any]] = []
    server = make_procedure(config, task)
    while server.more(earlier):
        sums = [make_procedure(config, task).sums(one, earlier) for one in shards]
        shapes = server.shapes(earlier)
        for one in sums:
            assert {key: value.shape for key, value in one.items()} == shapes
        earlier.append(_added(sums))
    return dict(server.result(earlier, Asked(len(frames), noise)))


def _added(sums: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for key in sums[0]:
        total = encode_exact(sums[0][key].reshape(-1), len(sums))
        for one in sums[1:]:
            add_limbs(total, encode_exact(one[key].reshape(-1), len(sums)))
        found[key] = decode_exact(total).reshape(sums[0][key].shape)
    return found
