"""``wardround serve``: everything is checked, then the port is opened, then requests are answered.

Ctrl-C and SIGTERM let what is being answered end, for ``GRACE_S`` at most.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from wardround.client.serving.app import Served, create_app
from wardround.client.serving.counting import Counting
from wardround.client.serving.door import Door
from wardround.client.serving.fhir_map import FhirMap, cohort_for
from wardround.client.serving.guard import Limits
from wardround.client.serving.listening import Listening, Tls, listen
from wardround.client.serving.model import Model, Trust, open_model
from wardround.client.serving.patience import patient_protocol
from wardround.client.serving.patients import Patients
from wardround.client.serving.thresholds import chosen
from wardround.client.site.kit import Kit
from wardround.common.durable.private import read_public
from wardround.common.errors import ConfigError
from wardround.common.process.logs import log_event

log = logging.getLogger("wardround.serve")
GRACE_S = 10
_CONNECTIONS = 128
_RESULTS = "results"
_KEEP_ALIVE_S = 30
_WRITING_S = 900.0
"""Until an answer that a language model writes must be whole."""
_SIGNER = "give 64 hexadecimal digits, or a file that has them"


@dataclass(frozen=True)
class Reach:
    """Who reaches it, and how.

    plain : something in front does TLS
    names : under which it is asked for besides
    """

    address: str = "127.0.0.1:8090"
    token_file: Path | None = None
    tls: Tls | None = None
    plain: bool = False
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Trusting:
    """Whose signature counts. ``signers``: public keys, hexadecimal, or files of such."""

    kit: Path | None = None
    signers: Sequence[str] = ()
    unsigned: bool = False

    @property
    def results(self) -> Path | None:
        """Where the kit's results lie, with the hospital's own counts of its rows."""
        return None if self.kit is None else Kit.open(self.kit).folder / _RESULTS


@dataclass(frozen=True)
class Asking:
    """What a command line asks for.

    thresholds : the one for a warning and the critical one, as ``thresholds.chosen`` has them
    """

    model: Path
    reach: Reach = field(default_factory=Reach)
    trusting: Trusting = field(default_factory=Trusting)
    hospital: str | None = None
    calibration: Path | None = None
    reference: Path | None = None
    thresholds: tuple[str, str] = ("", "")
    fhir_map: Path | None = None
    limits: Limits = field(default_factory=Limits)
    threads: int = 1
    encoder: str = ""


@contextmanager
def opened(asking: Asking) -> Iterator[tuple[ASGIApp, Listening, Served]]:
    """The application and its open port; whatever is wrong is told before there is one.

    Raises ModelRefused, CalibrationRefused, ConfigError, ProvisionError.
    """
    reach = asking.reach
    door = Door.of_file(reach.token_file) if reach.token_file else Door()
    trust, own = _trusted(asking.trusting)
    with tempfile.TemporaryDirectory(prefix="wardround-serve-") as folder:
        model = open_model(
            asking.model,
            Path(folder),
            trust,
            hospital=asking.hospital,
            calibration=asking.calibration,
            calibration_keys=own,
            reference=asking.reference,
            results=asking.trusting.results,
            threads=asking.threads,
            encoder=asking.encoder,
        )
        served = _served(asking, model)
        listening = listen(
            reach.address,
            door,
            reach.tls,
            plain=reach.plain,
            names=reach.names,
            open_model=model.signed,
        )
        try:
            app = create_app(served, door, listening.hosts, listening.any_address)
            yield app, listening, served
        finally:
            listening.socket.close()


def serve(asking: Asking, say: Callable[[str], None]) -> None:
    """Serve until a signal ends it. Call it in the main thread.

    say : takes lines for whoever started it

    Raises as ``opened``; KeyboardInterrupt at the end.
    """
    with opened(asking) as (app, listening, served):
        model = served.model
        say(f"{model.version}, good until {model.expires}")
        say(f"serves {listening.url}")
        if not model.signed:
            log.warning("nobody has signed all of this model: for trials only")
        log_event(log, "serves", url=listening.url, model=model.digest)
        server(app, asking.reach.tls).run(sockets=[listening.socket])


def server(app: ASGIApp, tls: Tls | None) -> uvicorn.Server:
    """One process, one event loop, bounded in connections and times."""
    config = uvicorn.Config(
        app,
        http=patient_protocol(),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    config.ssl = tls.context() if tls else None
    return uvicorn.Server(config)


def _served(asking: Asking, model: Model) -> Served:
    own = FhirMap.read(asking.fhir_map) if asking.fhir_map else FhirMap()
    cohort = cohort_for(model.schema, model.cohort, own)
    limits = asking.limits
    if model.language is not None:
        limits = replace(limits, answer_s=_WRITING_S)
    return Served(
        model,
        Counting(model),
        limits,
        chosen(model.thresholds, *asking.thresholds),
        Patients(cohort, model.schema, own) if cohort is not None else None,
    )


def _trusted(asking: Trusting) -> tuple[Trust, set[bytes]]:
    """Who may sign a model, and who a calibration: a kit's own hospital, or whom a person names."""
    named = {_key(text) for text in asking.signers}
    if asking.kit is None:
        if not named and not asking.unsigned:
            raise ConfigError(
                "whose models are to be trusted isn't said",
                mend="name this hospital's --kit, or a --signer (a simulation's: --unsigned)",
            )
        return Trust(named, asking.unsigned), named
    from wardround.client.models.signers import trusted_keys

    kit = Kit.open(asking.kit)
    trust = Trust({*trusted_keys(kit), *named}, asking.unsigned, partial(trusted_keys, kit))
    return trust, {kit.identity.public, *named}


def _key(text: str) -> bytes:
    if len(text) != 64 and Path(text).is_file():
        text = read_public(Path(text), _SIGNER).decode("ascii", "replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError("--signer: is no public key", mend=_SIGNER)
    return key
