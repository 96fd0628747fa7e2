"""A setting that does nothing is refused by its key; what is written down can be read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, TaskError
from wardround.common.settings.effects import Effect
from wardround.common.settings.known_effects import EFFECTS
from wardround.common.tasks.imaging.options import ImagingOptions, NetworkOptions
from wardround.common.tasks.options import ModelOptions, TabularOptions
from wardround.common.tasks.text.options import TextOptions
from wardround.simulations.default import default_config_text

REFUSED = {
    "[privacy]\nepsilon = 3.0": "privacy.epsilon: has no effect with privacy.unit",
    "[privacy]\nnoise_multiplier = 1.0": "privacy.noise_multiplier: has no effect",
    "[privacy]\ndelta = 1e-5": "privacy.delta: has no effect",
    "[privacy]\nunit = 'none'\nepsilon_limit = 2.0": "privacy.epsilon_limit: has no effect",
    "[privacy]\nunit = 'example'\nepsilon = 1.0\nrecords_per_patient = 4": "records_per_patient",
    "[privacy]\nunit = 'hospital'\nepsilon = 1.0\nsize_noise = 4.0": "privacy.size_noise",
    "[privacy]\nunit = 'example'\nepsilon = 1.0\ntarget_quantile = 0.6": "privacy.target_quantile",
    "[training]\noptimizer = 'adam'\nmomentum = 0.9": "training.momentum: has no effect",
    "[training]\nlocal_epochs = 3\nlocal_steps = 5": "leave one of them out",
    "[training]\nschedule = 'cosine'\nstep_rounds = 3": "training.step_rounds: has no effect",
    "[training]\nschedule = 'constant'\nlr_decay = 0.9": "training.lr_decay: has no effect",
    "[training]\ndistillation_temperature = 3.0": "training.distillation_temperature",
    "[strategy]\nproximal_mu = 0.1": "strategy.proximal_mu: 'fedavg' has no such option",
    "[strategy]\nname = 'fedadam'\neta_l = 0.1": "strategy.eta_l: 'fedadam' has no such option",
    "[strategy]\nname = 'krum'\nweighting = 'uniform'": "strategy.weighting: has no effect",
    "[secure_aggregation]\nenabled = false\nmax_examples = 90": "secure_aggregation.max_examples",
    "[secure_aggregation]\nenabled = false\n[simulation]\nunmask_dropout = 0.1": "unmask_dropout",
    "[federation]\nround_attempts = 1\nretry_wait_s = 3.0": "federation.retry_wait_s",
    "[simulation]\npartition = 'iid'\nalpha = 0.3": "simulation.alpha: has no effect",
    "[simulation]\nrows_per_client = 9": "simulation.rows_per_client: has no effect",
    "[simulation]\ncolumn = 'x'": "simulation.column: has no effect",
    "[simulation]\nray_address = 'auto'": "simulation.ray_address: has no effect",
    "[task.model]\nhidden = [64, 32]": 'task.model.hidden: has no effect with kind = "logistic"',
    "[task.model]\nkind = 'linear'\nnorm = 'batch'": "task.model.norm: has no effect",
    "[task.model]\ndropout = 0.5": "task.model.dropout: has no effect",
    "[task]\nname = 'imaging'\n[task.model]\nstem = 'small'": "task.model.stem: has no effect",
    "[task]\nname = 'text'\nkind = 'sequence'\nentities = ['X']": "task.entities: has no effect",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_key_without_effect_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert REFUSED[text] in str(caught.value) and str(caught.value).startswith("configuration:")


def test_every_line_of_inits_file_alone_works_or_says_what_it_needs() -> None:
    """G1: `epsilon` alone uncommented must not train without privacy."""
    text = default_config_text()
    parse_config(text)
    refused = {}
    for line in text.splitlines():
        if line.startswith("# ") and " = " in line and line.split()[1].isidentifier():
            try:
                parse_config(text.replace(line, line[2:], 1))
            except ConfigError as error:
                refused[line.split()[1]] = str(error)
    assert {"epsilon", "noise_multiplier", "delta", "step_rounds", "proximal_mu"} <= set(refused)
    kinds = ("has no effect", "has no such option", "needs", "there is no column")
    assert [key for key, why in refused.items() if not any(kind in why for kind in kinds)] == []


def test_a_whole_configuration_written_out_is_read_again() -> None:
    for text in ("", default_config_text(), "[training]\nlocal_steps = 3\noptimizer = 'adam'"):
        config = parse_config(text)
        again = parse_config(config.to_toml())
        assert again.to_toml() == config.to_toml()


def test_the_command_line_takes_effects_from_the_file_and_it_is_told() -> None:
    text = "[training]\nmomentum = 0.9\n[strategy]\nname = 'fedprox'\nproximal_mu = 0.1\n"
    text += "[task.model]\nkind = 'mlp'\nhidden = [8]\n"
    sets = ["training.optimizer=adam", "strategy.name=fedavg", "task.model.kind=logistic"]
    config = parse_config(text, sets)
    assert config.training.momentum == 0 and config.strategy.options == {}
    assert config.task.options == {"model": {"kind": "logistic"}}
    assert [line.partition(":")[0] for line in config.notes] == [
        "strategy.name was set to 'fedavg'",
        "training.momentum of the file is left out",
        "task.model.hidden of the file is left out",
    ]
    assert parse_config(config.to_toml()).to_toml() == config.to_toml()
    with pytest.raises(ConfigError, match="^--set training.momentum: has no effect"):
        parse_config("", ["training.optimizer=adam", "training.momentum=0.9"])


def test_naming_another_task_drops_the_options_of_the_files_own() -> None:
    """T7: the example's own [task] table is not another task's."""
    config = parse_config(default_config_text(), ["task.name=mine.py:Mine", "task.depth=3"])
    assert config.task.options == {"depth": 3}
    (note,) = config.notes
    assert "options of 'tabular' in the file are left out (kind, normalise, missing" in note
    same = parse_config("[task]\nname = 'mine.py:Mine'\ndepth = 2", ["task.name=./mine.py:Mine"])
    assert same.task.options == {"depth": 2} and same.notes == []


@pytest.mark.parametrize(
    ("model", "effects"),
    [
        (Config, EFFECTS),
        (TabularOptions, TabularOptions.effects),
        (ModelOptions, ModelOptions.effects),
        (NetworkOptions, NetworkOptions.effects),
        (ImagingOptions, ImagingOptions.effects),
        (TextOptions, TextOptions.effects),
    ],
)
def test_effects_name_keys_that_exist(model: type[Config], effects: tuple[Effect, ...]) -> None:
    for effect in effects:
        for key in (effect.key, effect.switch):
            kind: object = model
            for part in key.split("."):
                assert isinstance(kind, type) and part in kind.model_fields, key
                kind = kind.model_fields[part].annotation


def test_the_head_of_console_and_report_says_what_is_protected() -> None:
    assert parse_config("").privacy.sentence == "without differential privacy"
    text = "[privacy]\nunit = 'patient'\nepsilon = 3.0\nnoise = 'local'\n"
    assert parse_config(text).privacy.sentence == (
        "differential privacy: unit patient, epsilon 3 at delta 1e-05, local noise"
    )


def test_options_that_a_users_own_task_does_not_take_are_named(tmp_path: Path) -> None:
    """T7: in a file that names the task itself, where nothing can be left out for the user."""
    source = Path(__file__).parents[3] / "examples" / "own_task" / "task.py"
    (tmp_path / "mine.py").write_text(source.read_text())
    text = "[task]\nname = 'mine.py:Digits'\nkind = 'binary'\nmissing = 'drop'\n"
    with pytest.raises(TaskError) as caught:
        make_task(parse_config(text, path=tmp_path / "federation.toml"))
    assert str(caught.value) == (
        "task.kind, task.missing: Digits has no such option; it has: channels; leave them out"
    )
