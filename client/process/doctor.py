"""``wardround doctor KIT``: is all that a hospital needs in place? Looks only, changes nothing.

Of a researcher's or a coordinator's kit it looks at what they need: keys, dates, the server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import grpc

from wardround.client.site.kit import Kit, MemberKit, open_kit
from wardround.client.site.ledger import AUDIT, BEGUN, state_of
from wardround.client.site.policy import load_site
from wardround.client.site.siblings import shared_data, unlike_held_out
from wardround.client.site.studies import StudyFolders
from wardround.client.site.terms import Data, Terms, resolve_device, unknown_data
from wardround.client.sources.kept import Located
from wardround.client.sources.readers import look
from wardround.client.sources.source import Asked
from wardround.client.training.devices import told
from wardround.client.transport.diagnose import diagnose, proxy_for
from wardround.common.address import split_address
from wardround.common.audit.verify import check_log, proof_words
from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.errors import DataError, PolicyRefused, WardroundError
from wardround.common.names import ROLES
from wardround.common.process import checks
from wardround.common.process.checks import Finding
from wardround.common.study.study import Study
from wardround.common.tasks.data.allowance import allowing
from wardround.common.transport import tls
from wardround.common.transport.frames import TIME_METHOD
from wardround.common.trust.credentials import NAMES

_CLOCK_S = 30.0
_NAME_IT = "write [data.NAME] in site.toml, or start the client with --data SHARD"
_TIMEOUT_S = 5.0


def examine(folder: Path, data: Path | None, others: Sequence[Path] = ()) -> Iterator[Finding]:
    """Each check's finding, as it comes.

    data : the shard to hold against the task
    others : further kits of this hospital, besides those that lie beside this one
    """
    try:
        kit = open_kit(folder) if _is_other(folder) else Kit.open(folder)
    except (WardroundError, PermissionError) as error:
        yield Finding("kit", "error", checks.said(error))
        return
    description = kit.description
    federation, version = description.federation, description.version
    text = f"of {kit.name} for '{federation}', description version {version}"
    yield Finding("kit", "ok", text)
    yield checks.certificate(kit.info, datetime.now(UTC))
    yield checks.description(description, datetime.now(UTC))
    if not isinstance(kit, Kit):
        yield from _way(kit)
        return
    policy = checks.check("policy", lambda: _policy(kit))
    yield policy
    yield from _way(kit)
    if policy.state == "error":
        return  # all that follows goes by that file
    yield checks.check("device", lambda: _device(kit))
    yield from checks.looking("state", lambda: _state(kit))
    yield from checks.looking("shared data", lambda: shared_data(kit.folder, others))
    yield from checks.looking("held-out rows", lambda: unlike_held_out(kit.folder, others))
    yield from _sources(kit)
    if description.config().network is not None:
        yield from _of_network(kit, data)
    elif data is not None:
        yield checks.check("data", lambda: _data(kit, data))
    elif not load_site(kit.site_path).data:
        yield Finding("data", "warning", f"none was named: {_NAME_IT}")


def _is_other(folder: Path) -> bool:
    """Whether a folder is a researcher's or a coordinator's kit."""
    return any((folder / NAMES[role].certificate).exists() for role in ROLES if role != Kit.role)


def _way(kit: MemberKit) -> Iterator[Finding]:
    """From here to the server."""
    proxy = proxy_for(split_address(kit.description.address)[0])
    yield Finding("proxy", "ok", f"{proxy[0]}:{proxy[1]}" if proxy else "none: a direct connection")
    yield from _server(kit)


def _state(kit: Kit) -> Iterator[Finding]:
    """What the hospital keeps between starts, where there is something yet."""
    state = kit.folder / "state"
    begun = state.is_dir()
    yield checks.disk(state if begun else kit.folder)
    log = state / AUDIT
    if begun and log.exists():
        yield checks.check("audit log", lambda: _audit(kit, log))
    if begun and (state / BEGUN).exists():
        yield checks.check("ledger", lambda: state_of(kit))


def _device(kit: Kit) -> str:
    return told(resolve_device(load_site(kit.site_path).device))


def _policy(kit: Kit) -> str:
    site = load_site(kit.site_path)
    studies = kit.description.config().network is not None
    approval = site.of_studies if studies else site.approval
    return f"{kit.site_path}: approval = {approval}, min_cohort = {site.min_cohort}"


def _server(kit: MemberKit) -> Iterator[Finding]:
    address = kit.description.address
    if reason := diagnose(kit):
        yield Finding("server", "error", reason)
        return
    files = tls.Files(kit.ca_pem, kit.certificate_pem, kit.key_pem)
    with grpc.secure_channel(address, tls.channel_credentials(files)) as channel:
        try:
            before = time.time()
            theirs = float(channel.unary_unary(TIME_METHOD)(b"", timeout=_TIMEOUT_S))
            own = (before + time.time()) / 2
        except (grpc.RpcError, ValueError):
            yield Finding("server", "error", f"{address} answers, but not as a wardround server")
            return
    yield Finding("server", "ok", f"{address} is reached, with this {kit.role}'s certificate")
    apart = own - theirs
    state = "ok" if abs(apart) < _CLOCK_S else "error"
    mend = "" if state == "ok" else ": set this machine's clock, or the server's"
    yield Finding("clock", state, f"{apart:+.1f} s beside the server's{mend}")  # type: ignore[arg-type]


def _audit(kit: Kit, log: Path) -> str:
    publics = {kit.name: kit.identity.public, "server": kit.description.server}
    report = check_log(log, publics=publics)
    if report.problems:
        raise PolicyRefused(f"{report.problems[0]} (wardround audit verify {log})")
    return f"{log}: no damage found; {proof_words(report)}"


def _data(kit: Kit, data: Path) -> str:
    site = load_site(kit.site_path)
    config: Config = site.apply(kit.description.config())
    known = str(data) in site.data
    if not known and not data.exists():
        raise DataError(unknown_data(data, site.data))
    return _fit(kit, config, site.located(str(data)) if known else Located(data))


def _fit(kit: Kit, config: Config, located: Located) -> str:
    """What a study makes of data that lie here as it loads them."""
    if located.is_taken:
        return f"{located.words}: wardround data check {kit.folder} reads it, and says what fits"
    if located.path is None:
        return "public example data"
    with allowing(located.left_out_share):
        try:
            return checks.rows(make_task(config), located.path, kit.name)
        except DataError as error:
            raise DataError(located.own_words(str(error))) from None


def _of_network(kit: Kit, data: Path | None) -> Iterator[Finding]:
    """What the client is to be started with, and the data of each study that goes on, held against
    it."""
    folders = StudyFolders(kit.folder / "state")
    site = load_site(kit.site_path)
    known = data is not None and str(data) in site.data
    started = Data(name=str(data)) if known else Data(data, none=data is None)
    if data is not None:
        there = known or data.exists()
        told = f"{data}: is there; each study that is shown is held against it"
        told = told if there else unknown_data(data, site.data)
        yield Finding("data", "ok" if there else "error", told)
    elif not site.data:
        yield Finding("data", "warning", f"none was named: {_NAME_IT}")
    for id in folders.open_ids():
        study = folders.kept(id)
        yield checks.check(f"study {study.name}", partial(_rows, kit, started, study))


def _rows(kit: Kit, data: Data, study: Study) -> str:
    terms = Terms.read(kit, data=data, study=study)
    return _fit(kit, terms.config, terms.data)


def _sources(kit: Kit) -> Iterator[Finding]:
    """The tables ``[data.NAME]`` of ``site.toml``, each looked at where it is."""
    site, config = load_site(kit.site_path), kit.description.config()
    for name in site.data:
        located = site.located(name)
        assert located.source is not None
        asked = Asked(config, located.base, name, lambda line: None)
        yield checks.check(f"data.{name}", partial(look, located.source, asked))
