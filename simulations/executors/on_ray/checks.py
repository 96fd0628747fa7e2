"""What can't be run on Ray, said before anything is started."""

from __future__ import annotations

import importlib.util
import socket

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError
from wardround.common.text import one_line

_ANSWER_S = 5.0


def check_ray(config: Config, own_task: bool, given: bool = False) -> None:
    """Raise ConfigError where a run can't be on Ray.

    own_task, given : whether the task is an object, or the data are, of this process only
    """
    key = "simulation.executor"
    if importlib.util.find_spec("ray") is None:
        raise config.error(key, "'ray' needs Ray; pip install 'wardround[ray]'")
    if given:
        raise config.error(
            key,
            "'ray' can't reach data in this process's memory, as its actors read files",
            "write them to a folder that each machine has and name it (data.path), or use "
            "'processes'",
        )
    if own_task:
        raise config.error(
            key,
            "'ray' can't send a task or model that is an object of this process; name it by "
            "task.name = 'path/to/file.py:Class', at the same path on each machine",
        )
    if config.privacy.enabled:
        raise config.error(
            key,
            "'ray' doesn't go with [privacy]: the hospitals' ledgers are files of this machine, "
            "and actors elsewhere can't write them; use 'processes'",
        )
    if config.training.device not in ("cpu", "cuda"):
        raise config.error(
            "training.device",
            f"'{config.training.device}' with executor 'ray'; use 'cpu' or 'cuda': Ray gives each "
            "actor a GPU of its own",
        )
    _check_address(config)


def _check_address(config: Config) -> None:
    """Whether anyone listens there: Ray itself would try for minutes."""
    host, _, port = config.simulation.ray_address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(config, error) from None


def no_cluster(config: Config, error: Exception) -> ConfigError:
    """That nothing answers where the configuration says."""
    address = config.simulation.ray_address
    where = f"at '{address}'" if address else "on this machine"
    return config.error(
        "simulation.ray_address",
        f"no Ray cluster {where} ({one_line(str(error), 100)}); start one there by `ray start "
        "--head --port=6379`",
    )
