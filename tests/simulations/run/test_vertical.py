"""A regression from one file: linked, computed and told by what `wardround analyse` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm

from wardround.common.config.load import parse_config
from wardround.simulations.run.analyse import analyse

TEXT = """
[federation]
name = "risk"
[task]
name = "linked"
[task.identifiers]
mrn = "exact"
[task.parties.lab]
numeric = ["crp"]
categorical = { gene = ["aa", "ab", "bb"] }
[task.parties.registry]
numeric = ["age"]
outcome = "score"
{dealer}
[procedure]
name = "vertical"
model = "linear"
link = "same"
padded = 50
[simulation]
vertical_overlap = 0.9
"""


@pytest.mark.parametrize("dealer", ["", "[task.parties.university]"])
def test_one_file_is_linked_and_regressed(tmp_path: Path, dealer: str) -> None:
    random = np.random.default_rng(0)
    age, crp = random.normal(60, 10, 90), random.exponential(5, 90)
    gene = random.choice(["aa", "ab", "bb"], 90)
    score = 3 + 0.1 * age - 0.2 * crp + (gene == "bb") + random.normal(0, 0.1, 90)
    rows = zip(age, crp, gene, score, strict=True)
    lines = [f"P{n},{a},{c},{g},{s}" for n, (a, c, g, s) in enumerate(rows)]
    (tmp_path / "all.csv").write_text("\n".join(["mrn,age,crp,gene,score", *lines]) + "\n")
    more = ["data.path=all.csv", *(["procedure.dealer=university"] if dealer else [])]
    config = parse_config(TEXT.replace("{dealer}", dealer), more, path=tmp_path / "federation.toml")
    done = analyse(config)
    told = done.published["vertical.json"]
    assert (done.run_directory / "report.html").read_text() == done.published["vertical.html"]
    found = {one["column"]: one for one in told["coefficients"]}
    assert told["persons_at_most"] == 100
    assert told["dealer"] == ("university" if dealer else "coordinator")
    x = sm.add_constant(np.column_stack([crp, gene == "ab", gene == "bb", age]).astype(float))
    pooled = sm.OLS(score, x).fit()  # of all rows: nine tenths are linked
    for number, name in enumerate(("crp", "gene=ab", "gene=bb", "age"), start=1):
        gap = abs(found[name]["coefficient"] - pooled.params[number])
        assert gap < 2 * pooled.bse[number] and found[name]["standard_error"] > 0
