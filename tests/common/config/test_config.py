"""Configuration errors name file, line, key and what is allowed; a resolved file reads back."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.common.config.load import load_config, parse_config
from wardround.common.errors import ConfigError

TEXT = """# a comment
[federation]
name = "x"
rounds = 3

[training]
lr = 0.1
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rounds = 3", "rounds = 0", "federation.toml:4: federation.rounds: input should be gr"),
        ("rounds = 3", "rounds = '3'", "federation.toml:4: federation.rounds: input should be a"),
        ("rounds = 3", "rouns = 3", "federation.toml:4: federation.rouns: unknown key; did you "),
        ("lr = 0.1", "zzz = 1", "federation.toml:7: training.zzz: unknown key; allowed: batch_"),
        ("[training]", "[trainin]", "federation.toml:6: trainin: unknown key; did you mean 'tr"),
        ("lr = 0.1", "lr = nan", "federation.toml:7: training.lr:"),
        ("lr = 0.1", "lr = ", "federation.toml: not valid TOML"),
        ('name = "x"', 'name = "a/b"', "federation.toml:3: federation.name: string should match"),
        ("lr = 0.1", "optimizer = 'lbfgs'", "federation.toml:7: training.optimizer: input shoul"),
        ("rounds = 3", "clients_per_round = 1\nmin_clients = 2", "no round could succeed"),
        (
            "[training]",
            "[data]\ntest_fraction = 0.6\nvalidation_fraction = 0.4\n[training]",
            "below",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old, new, message) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_overrides_win_and_are_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(TEXT)
    sets = ["training.lr=0.5", "federation.name=other", "strategy.name=fedadam", "strategy.eta=1"]
    config = load_config(path, sets)
    assert config.training.lr == 0.5 and config.federation.name == "other"
    assert config.strategy.options == {"eta": 1}
    assert config.federation.rounds == 3
    with pytest.raises(ConfigError, match=r"^--set training.lr: input should be greater than 0"):
        load_config(path, ["training.lr=-1"])
    for wrong in ("lr=1", "training.lr", ".=1", "federation.name.x=1"):
        with pytest.raises(ConfigError, match="--set"):
            load_config(path, [wrong])


@pytest.mark.parametrize(
    "encoder", ["/", ".", "..", "models/..", "models/./", "a\\\\..\\\\", "a/ /"]
)
def test_an_encoders_folder_has_a_name_that_parties_share(encoder: str) -> None:
    task = f'[task]\nname = "{{}}"\nencoder = "{encoder}"\n'
    with pytest.raises(ConfigError, match="task: encoder: end the path in the folder's own name"):
        parse_config(task.format("text"))
    assert "encoder" in parse_config(task.format("own.py:Mine")).task.options


def test_the_resolved_file_reads_back_equal_and_absolute(tmp_path: Path) -> None:
    text = TEXT + "[data]\npath = 'rows'\n[task]\nname = 'own.py:Mine'\ndepth = 3\n"
    path = tmp_path / "federation.toml"
    path.write_text(text)
    config = load_config(path)
    again = parse_config(config.to_toml())
    assert again.to_toml() == config.to_toml()
    assert again.data.path == str(tmp_path / "rows")
    assert again.task.name == f"{tmp_path / 'own.py'}:Mine" and again.task.options == {"depth": 3}
    assert again.runs_folder() == tmp_path / "runs"
    own = load_config(path, ["strategy.name=rule.py:Mine"])
    assert parse_config(own.to_toml()).strategy.name == f"{tmp_path / 'rule.py'}:Mine"


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wardround init"):
        load_config(tmp_path / "none.toml")


def test_it_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_config("").training.lr = 1.0  # type: ignore[misc]


def test_a_procedures_own_model_is_no_place_of_a_file() -> None:
    """Of a finished model it is where that lies here, and no other party's; of columns in several
    places it is which kind is fitted, and all parties'."""
    text = '[procedure]\nname = "{}"\n{}'
    vertical = parse_config(text.format("vertical", 'model = "logistic"\nlink = "same"\n'))
    assert vertical.procedure.shared()["model"] == "logistic"
    assert parse_config(vertical.to_toml()).procedure == vertical.procedure
    evaluated = parse_config(text.format("evaluate", 'model = "runs/one"\n'))
    assert "model" not in evaluated.procedure.shared()
    assert str(parse_config(evaluated.to_toml()).procedure.options["model"]).startswith("/")
