"""The server as systemd would run it: what the real unit's lists say of how real processes end."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

from tests.deployment.harness import federation
from wardround.common.config.load import load_config
from wardround.server.provision.kits import provision

UNIT = Path(__file__).parents[2] / "deploy" / "wardround-server.service"


def value(key: str) -> str:
    found = re.search(rf"^{key}=(.+)$", UNIT.read_text(), re.M)
    assert found is not None
    return found[1]


def test_a_boot_a_stop_and_mistakes(tmp_path: Path) -> None:
    _, command, config, *words = shlex.split(value("ExecStart"))
    assert (command, config, value("Restart")) == ("server", "federation.toml", "on-failure")
    mended_by_people = {int(code) for code in value("RestartPreventExitStatus").split()}
    fine = {0, *(int(code) for code in value("SuccessExitStatus").split())}
    with federation(tmp_path, rounds=1) as made:
        made.start_server(*words)
        for name in made.names:
            made.start_client(name)
        made.finish()
        digest = made.model_digest()
        boot = made.start_server(*words)  # with every hospital there
        assert boot.wait() == 0 and "is complete" in boot.text and "--new" in boot.text
        assert len(list((made.folder / "runs").iterdir())) == 1
        assert made.model_digest() == digest
        again = made.start_server(*words, "--new")
        again.says("a is connected")
        again.signal(signal.SIGTERM)
        assert again.wait() in fine
        made.stop_clients()

        moved = made.folder.rename(tmp_path / "moved")
        made.folder, made.config = moved, moved / "federation.toml"
        text = made.config.read_text()
        later = text.replace("lease_s = 2.5", "lease_s = 5.0").replace(
            "attempts = 20", "attempts = 7"
        )
        made.config.write_text(later + "max_connections = 9\n")
        on = made.start_server(*words)
        on.says("going on with")
        on.says("waiting for hospitals")
        on.signal(signal.SIGTERM)
        assert on.wait() in fine
        made.config.write_text(text.replace("lr = 0.1", "lr = 0.2"))
        unsigned = made.start_server(*words)
        assert unsigned.wait() in mended_by_people and "lr was 0.1, is 0.2" in unsigned.text
        provision(load_config(made.config))
        other = made.start_server(*words)
        assert other.wait() in mended_by_people
        assert "begun with other settings: training.lr was 0.1, is 0.2" in other.text


def test_clients_that_stay_up_take_the_settings_of_the_next_run(tmp_path: Path) -> None:
    """Also what shapes the model: they don't train on with those that they were started with."""
    models = {}
    with federation(tmp_path, rounds=1) as made:
        made.start()
        made.finish()
        models["0.1"] = made.model_digest()
        made.config.write_text(made.config.read_text().replace("lr = 0.1", "lr = 0.5"))
        provision(load_config(made.config))
        for when in ("clients stay", "clients are started again"):
            made.start_server("--new")
            made.finish()
            models[when] = made.model_digest()
            made.stop_clients()
            for name in made.names:
                made.start_client(name)
    assert models["clients stay"] == models["clients are started again"] != models["0.1"]
