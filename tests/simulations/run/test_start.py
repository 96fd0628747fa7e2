"""What a simulation has imported by its first round: nothing that only its end, or another task,
needs. Each of these takes a tenth of a second to seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from wardround.common.tasks.data.example import breast_cancer_columns

LATER = {
    *("scipy", "sklearn", "joblib", "openpyxl", "plotly", "jinja2", "matplotlib", "statsmodels"),
    *("opacus", "dp_accounting", "transformers", "peft", "onnx", "onnxruntime", "xgboost", "ray"),
    *("fastapi", "uvicorn", "sqlalchemy", "alembic", "duckdb", "psycopg", "pydicom", "nibabel"),
    *("sympy", "torch._dynamo", "torch._inductor", "wardround.common.run.report.from_run"),
    *("wardround.server.network", "wardround.server.dashboard", "wardround.client.serving"),
}
BEGIN = """
import json, os, sys
from wardround.common.process.main import main
from wardround.server.rounds import round as rounds
def first(self, *args):
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)
rounds.RoundRunner.train = first
main()
"""


def test_nothing_is_imported_before_the_first_round_that_only_others_need(tmp_path: Path) -> None:
    settings = ["--set", f"federation.runs={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, "simulate", *settings],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert "torch" in imported and "wardround.server.rounds.federation" in imported
    assert not LATER & imported


def test_the_example_is_scikit_learns() -> None:
    from sklearn.datasets import load_breast_cancer

    theirs, ours = load_breast_cancer(), breast_cancer_columns()
    assert list(ours) == [*map(str, theirs.feature_names), "malignant"]
    np.testing.assert_array_equal(np.column_stack(list(ours.values())[:-1]), theirs.data)
    np.testing.assert_array_equal(ours["malignant"], 1 - theirs.target)
    assert ours["malignant"].dtype == (1 - theirs.target).dtype
