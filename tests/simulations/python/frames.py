"""Made-up hospitals as data frames: unlike in size, prevalence and what their columns hold."""

from __future__ import annotations

import numpy as np
import pandas as pd

Frames = dict[str, pd.DataFrame]


def patients(rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Rows whose outcome follows from age and creatinine."""
    draw = np.random.default_rng(seed)
    age = draw.normal(60, 12, rows).round(1)
    creatinine = draw.lognormal(4.4, 0.4, rows).round(1)
    risk = 1 / (1 + np.exp(-(0.12 * (age - 60) + 0.01 * (creatinine - 80) + shift)))
    return pd.DataFrame(
        {
            "age": age,
            "creatinine [umol/L]": creatinine,
            "sex": draw.choice(["female", "male"], rows),
            "smoker": draw.random(rows) < 0.3,
            "admitted": pd.date_range("2024-01-01", periods=rows, freq="D"),
            "died": (draw.random(rows) < risk).astype(int),
        }
    )


def hospitals() -> Frames:
    """Three of them."""
    return {"north": patients(90, 1), "south": patients(70, 2, 0.8), "west": patients(50, 3, -0.8)}
