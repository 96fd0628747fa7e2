"""``wardround doctor federation.toml``: is all that the coordinator needs in place?"""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from wardround.common.address import split_address
from wardround.common.audit.verify import check_log, proof_words
from wardround.common.config.load import Config, load_config
from wardround.common.config.task import make_task
from wardround.common.durable.lock import lock_holder
from wardround.common.errors import ProvisionError, TransportError, WardroundError
from wardround.common.process import checks
from wardround.common.process.checks import Finding
from wardround.common.secagg.content import descriptor
from wardround.server.provision.kits import ServerFolder, load_server_folder, standings
from wardround.server.strategies import build_strategy

_NEEDED = (
    "fastapi",
    "uvicorn",
    "prometheus_client",
    "grpc_health",
    "plotly",
    "jinja2",
    "argon2",
    "authlib",
    "joserfc",
)


def examine(path: Path, data: Path | None = None) -> Iterator[Finding]:
    """Each check's finding, as it comes. ``data``: a shard to hold against the task, of the
    hospital that its file is called like."""
    try:
        config = load_config(path)
        task = make_task(config)
        build_strategy(config)
    except (WardroundError, PermissionError) as error:
        yield Finding("configuration", "error", checks.said(error))
        return
    yield Finding("configuration", "ok", f"{path}: federation '{config.federation.name}'")
    yield checks.check("packages", _packages)
    if data is not None:
        yield checks.check("data", lambda: checks.rows(task, data, data.stem))
    try:
        folder = load_server_folder(config)
    except (WardroundError, PermissionError) as error:
        yield Finding("server folder", "error", checks.said(error))
        return
    yield checks.certificate(folder.info, datetime.now(UTC))
    yield checks.description(folder.description, datetime.now(UTC))
    yield checks.check("signed description", lambda: _description(config, folder))
    for standing in standings(config):
        if standing.state not in ("valid", "revoked"):
            text = f"{standing.name}: {standing.state} ({standing.expires:%Y-%m-%d}): renew it"
            yield Finding("certificates", "warning", text)
    yield checks.check("port", lambda: _port(config, folder))
    yield checks.check("name", lambda: _name(config))
    runs = config.runs_folder()
    yield checks.disk(runs if runs.exists() else config.folder)
    if folder.audit_path.exists():
        yield checks.check("audit log", lambda: _audit(folder))


def _packages() -> str:
    """What `wardround server` imports beyond a hospital's packages is installed."""
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise ProvisionError(
            f"wardround server needs {', '.join(missing)}: pip install 'wardround[server]'"
        )
    return "what the server needs is installed"


def _description(config: Config, folder: ServerFolder) -> str:
    description = folder.description
    if descriptor(description.config()) != descriptor(config):
        raise ProvisionError(
            "the settings differ from what the hospitals have; run `wardround provision` again"
        )
    return f"version {description.version}, {len(description.hospitals)} hospitals"


def _port(config: Config, folder: ServerFolder) -> str:
    holder = lock_holder(folder.folder / "lock")
    if holder is not None:
        return f"the server is running (process {holder})"
    listen = config.server.listen or f":{split_address(config.server.address)[1]}"
    host, port = split_address(listen)
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        raise TransportError(
            f"{listen} can't be listened on ({error.strerror}); set server.listen"
        ) from None
    return f"{port} is free"


def _name(config: Config) -> str:
    host, _ = split_address(config.server.address)
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        raise TransportError(
            f"{host} (server.address) can't be resolved here; hospitals must be able to"
        ) from None
    return f"{host} is {', '.join(sorted(map(str, found)))}"


def _audit(folder: ServerFolder) -> str:
    publics = {**folder.description.hospitals, "server": folder.identity.public}
    report = check_log(folder.audit_path, publics=publics)
    if report.problems:
        problem = report.problems[0]
        raise ProvisionError(f"{problem} (wardround audit verify {folder.audit_path})")
    return f"{folder.audit_path}: no damage found; {proof_words(report)}"
