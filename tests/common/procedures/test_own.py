"""A procedure from a file of one's own runs, and each side runs the file that the settings have."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from wardround.client.site.policy import load_site
from wardround.common.config.load import load_config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, PolicyRefused
from wardround.common.procedures.known import make_procedure, steps_of
from wardround.common.trust.description import study_tables
from wardround.simulations import analyse

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_procedure"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "own")) / "study.toml"


def test_the_example_finds_the_interval_of_all_rows_together(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = analyse(study)
    values = load_breast_cancer(as_frame=True).frame["mean texture"]
    ends = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
    shown = found.published["interval.json"]
    assert shown["error"] == pytest.approx(100 / 2**17)
    assert [shown["from"], shown["to"]] == pytest.approx(ends, abs=shown["error"] + 0.01)
    page = (found.run_directory / "report.html").read_text()
    assert "interval.json" in page and "mean texture" in page


def test_its_file_is_the_one_of_the_settings_at_both_ends(study: Path) -> None:
    config = load_config(study)
    digest = hashlib.sha256((study.parent / "interval.py").read_bytes()).hexdigest()
    assert config.procedure.options["file_sha256"] == digest and steps_of(config) == 16
    shared = study_tables(config)["procedure"]
    assert (shared["name"], shared["file_sha256"]) == ("interval.py:Interval", digest)
    site = study.parent / "site.toml"
    site.write_text("")
    with pytest.raises(PolicyRefused, match="the procedure is 'interval.py:Interval', and code"):
        load_site(site).apply(config)
    site.write_text('[task_files]\n"interval.py:Interval" = "copy/interval.py"\n')
    (study.parent / "copy").mkdir()
    copy = study.parent / "copy" / "interval.py"
    shutil.copy(study.parent / "interval.py", copy)
    own = load_site(site).apply(config)
    assert make_procedure(own, make_task(own)).name == "interval"
    copy.write_text(copy.read_text() + "\nraise SystemExit('it ran')\n")
    with pytest.raises(ConfigError, match="isn't the file of SHA-256"):
        make_procedure(own, make_task(own))


def test_with_privacy_one_without_a_bound_is_refused_whatever_it_says_itself(study: Path) -> None:
    file = study.parent / "interval.py"
    file.write_text(file.read_text().replace("if config.privacy.enabled:", "if False:"))
    config = load_config(study, ["privacy.unit=example", "privacy.epsilon=1"])
    with pytest.raises(ConfigError, match="privacy.unit: .*says no bound on what a unit changes"):
        make_procedure(config, make_task(config))


def test_names_that_are_none_are_refused_with_what_is_meant() -> None:
    for name, words in (
        ("statistic", "there is no procedure 'statistic'; did you mean 'statistics'?"),
        ("file.txt:Class", "there is no procedure 'file.txt:Class'"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_config(f'[procedure]\nname = "{name}"\n')
    with pytest.raises(ConfigError, match="no such file"):
        steps_of(parse_config('[procedure]\nname = "nowhere.py:Thing"\n'))
