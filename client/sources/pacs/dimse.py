"""An archive by its DICOM port: C-FIND finds, C-GET or C-MOVE gives (PS3.4 C), through pynetdicom.

For C-MOVE the archive sends to a port of this hospital's own, which is open while it is asked: to
calls with the archive's title and from its host, and for objects of the series that is asked for.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardround.client.sources.pacs.archive import (
    UID,
    ArchiveAway,
    NotGiven,
    Series,
    Study,
    Take,
    quiet,
    text_of,
)
from wardround.client.sources.pacs.secrets import check_key, check_pem
from wardround.client.sources.pacs.settings import DimseSource
from wardround.client.sources.pacs.syntaxes import IMAGES, PLAIN, STORED
from wardround.common.address import split_address
from wardround.common.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.association import Association
    from pynetdicom.events import Event

_PENDING = (0xFF00, 0xFF01)
_SUCCESS, _REFUSED, _NOT_ASKED = 0x0000, 0xA700, 0xA900
_STUDY_KEYS = (
    "StudyInstanceUID",
    "PatientID",
    "AccessionNumber",
    "StudyDescription",
    "StudyDate",
    "ModalitiesInStudy",
)
_SERIES_KEYS = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesDescription",
    "NumberOfSeriesRelatedInstances",
)


class DimseArchive:
    """``source = "dicom"``. The parameters and errors are those of ``WebArchive``."""

    def __init__(self, settings: DimseSource, base: Path, called: str) -> None:
        try:
            import pynetdicom  # noqa: F401 - what follows imports from it where it is used
        except ImportError:
            raise DataError(
                f"{called}: the DICOM port needs pynetdicom: pip install 'wardround[imaging]'"
            ) from None
        self._settings, self._called = settings, called
        ca = check_pem(settings.ca, base, f"{called} ca")
        own = check_pem(settings.certificate, base, f"{called} certificate")
        key = check_key(settings.key, base, f"{called} key")
        self._tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
        if settings.tls:
            self._tls = _contexts(ca, own, key, called)
        self._receiver: _Receiver | None = None

    def greet(self) -> str:
        from pynetdicom.sop_class import Verification

        with self._associated([(Verification,)]) as link:
            self._settled(link.send_c_echo(), "C-ECHO")
        if self._settings.retrieve == "move":
            self._receiving().close()
            self._receiver = None
            return f"it answers C-ECHO, and {self._settings.listen} is free to receive at"
        return "it answers C-ECHO"

    def studies(self, asked: Mapping[str, str], most: int) -> list[Study]:
        found = self._find("STUDY", _STUDY_KEYS, asked, most)
        return [
            Study(
                text_of(one, "StudyInstanceUID"),
                text_of(one, "PatientID"),
                text_of(one, "AccessionNumber"),
                text_of(one, "StudyDescription"),
            )
            for one in found
            if UID.fullmatch(text_of(one, "StudyInstanceUID"))
        ]

    def series(self, study: str, most: int) -> list[Series]:
        found = self._find("SERIES", _SERIES_KEYS, {"StudyInstanceUID": study}, most)
        return [
            Series(
                study,
                text_of(one, "SeriesInstanceUID"),
                text_of(one, "Modality"),
                text_of(one, "SeriesDescription"),
                int(count)
                if (count := text_of(one, "NumberOfSeriesRelatedInstances")).isdecimal()
                else None,
            )
            for one in found
            if UID.fullmatch(text_of(one, "SeriesInstanceUID"))
        ]

    def objects(self, series: Series, take: Take) -> None:
        if self._settings.retrieve == "get":
            self._get(series, _Taking(series, take))
        else:
            self._move(series, _Taking(series, take))

    def close(self) -> None:
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    # --- the three services -----------------------------------------------------------------------
    def _find(
        self, level: str, keys: tuple[str, ...], asked: Mapping[str, str], most: int
    ) -> list[Dataset]:
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as Find

        dataset = _identifier(level, dict.fromkeys(keys, "") | dict(asked))
        found: list[Dataset] = []
        with self._associated([(Find,)]) as link:
            for status, one in link.send_c_find(dataset, Find):
                if self._pending(status, "C-FIND") and one is not None:
                    found.append(one)
                if len(found) > most:
                    raise NotGiven(f"the archive has more than {most} of them; narrow the search")
        return found

    def _get(self, series: Series, taking: _Taking) -> None:
        from pynetdicom import build_role, evt
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as Get

        kinds = _image_kinds()
        contexts = [(Get,), *((kind, form) for kind in kinds for form in (PLAIN, STORED))]
        roles = [build_role(kind, scp_role=True) for kind in kinds]
        handlers = [(evt.EVT_C_STORE, taking.store)]
        with self._associated(contexts, roles, handlers) as link:
            for status, _ in link.send_c_get(_identifier("SERIES", _of(series)), Get):
                taking.check()
                self._pending(status, "C-GET")
        taking.check()

    def _move(self, series: Series, taking: _Taking) -> None:
        from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as Move

        receiver = self._receiving()
        receiver.taking = taking
        try:
            with self._associated([(Move,)]) as link:
                asked = _identifier("SERIES", _of(series))
                for status, _ in link.send_c_move(asked, self._settings.title, Move):
                    taking.check()
                    self._pending(status, "C-MOVE")
        finally:
            receiver.taking = None
        taking.check()

    # --- connections ------------------------------------------------------------------------------
    @contextmanager
    def _associated(
        self, contexts: list[tuple[Any, ...]], roles: Any = None, handlers: Any = None
    ) -> Iterator[Association]:
        """An association for a block, in which what goes wrong is said in words of ours.

        contexts : kinds of objects, and for images the forms of each context
        """
        from pynetdicom import build_context

        called, settings = self._called, self._settings
        with quiet():
            link = _entity(settings).associate(
                settings.host,
                settings.port,
                [build_context(kind, *map(list, forms)) for kind, *forms in contexts],
                settings.archive_title,
                ext_neg=roles,
                evt_handlers=handlers,
                tls_args=(self._tls[0], settings.host) if self._tls else None,
            )
            try:
                if not link.is_established:
                    self._refused(link)
                yield link
                link.release()
            except (NotGiven, DataError):
                raise
            except Exception as error:  # of the library, of pydicom: they quote what they read
                kind = type(error).__name__
                raise ArchiveAway(f"{called}: the archive broke off ({kind})") from None
            finally:
                if link.is_established:  # the archive may be sending still
                    link.abort()

    def _refused(self, link: Association) -> None:
        """Raise the error for an association that there isn't."""
        called, settings = self._called, self._settings
        if link.is_rejected:
            raise DataError(
                f"{called}: the archive refuses the call; enter the AE title '{settings.title}' "
                f"with this host there, and check archive_title ('{settings.archive_title}')"
            )
        raise ArchiveAway(
            f"{called}: the archive at {settings.host}:{settings.port} can't be reached; is it up, "
            "are host, port and tls right?"
        )

    def _pending(self, status: Dataset, what: str) -> bool:
        """Whether more is to come. Raises ArchiveAway, NotGiven."""
        if status and status.Status in _PENDING:
            return True
        self._settled(status, what)
        return False

    def _settled(self, status: Dataset, what: str) -> None:
        if not status:  # no answer, or the connection broke
            raise ArchiveAway(
                f"{self._called}: the archive broke off in {what}; does it allow that to "
                f"'{self._settings.title}'?"
            )
        if status.Status != _SUCCESS:
            raise NotGiven(f"the archive answered {what} with status {status.Status:#06x}")

    def _receiving(self) -> _Receiver:
        if self._receiver is None:
            context = self._tls[1] if self._tls else None
            self._receiver = _Receiver(self._settings, context, self._called)
        return self._receiver


class _Taking:
    """Objects of one series, from whichever thread they come."""

    def __init__(self, series: Series, take: Take) -> None:
        self._series, self._take = series, take
        self._lock = threading.Lock()
        self._fault: NotGiven | DataError | None = None

    def store(self, event: Event) -> int:
        """Handle a C-STORE: the DICOM status."""
        with quiet(), self._lock:
            if self._fault is not None:
                return _REFUSED
            try:
                dataset = event.dataset
                dataset.file_meta = event.file_meta
                if text_of(dataset, "SeriesInstanceUID") != self._series.uid:
                    return _NOT_ASKED
                self._take(dataset)
            except (NotGiven, DataError) as error:
                self._fault = error
                return _REFUSED
            except Exception as error:  # pydicom's, of an object that it can't read
                self._fault = NotGiven(f"an object can't be read ({type(error).__name__})")
                return _REFUSED
        return _SUCCESS

    def check(self) -> None:
        """Raise the error of the first object that wasn't taken."""
        if self._fault is not None:
            raise self._fault


class _Receiver:
    """The port that the archive moves objects to."""

    def __init__(self, settings: DimseSource, context: ssl.SSLContext | None, called: str) -> None:
        from pynetdicom import evt

        self.taking: _Taking | None = None
        self._hosts = _addresses(settings.host, called)
        ae = _entity(settings)
        ae.require_calling_aet = [settings.archive_title]
        ae.require_called_aet = True
        ae.maximum_associations = 4
        for kind in _image_kinds():
            ae.add_supported_context(kind, [*PLAIN, *STORED])
        host, port = split_address(settings.listen or "")
        try:
            with quiet():
                self._server = ae.start_server(
                    (host, port),
                    block=False,
                    ssl_context=context,
                    evt_handlers=[(evt.EVT_C_STORE, self._store)],
                )
        except OSError as error:
            raise DataError(
                f"{called} listen: {settings.listen} can't be listened at ({error.strerror}); name "
                "an address of this machine and a free port"
            ) from None

    def _store(self, event: Event) -> int:
        taking = self.taking
        caller = getattr(event.assoc.requestor, "address", "")
        if taking is None or caller not in self._hosts:
            return _NOT_ASKED
        return taking.store(event)

    def close(self) -> None:
        with quiet():
            self._server.shutdown()


def _entity(settings: DimseSource) -> ApplicationEntity:
    from pynetdicom import AE

    ae = AE(ae_title=settings.title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = settings.timeout_s
    ae.connection_timeout = settings.timeout_s
    return ae


def _image_kinds() -> list[str]:
    from pynetdicom import sop_class

    return [str(getattr(sop_class, name)) for name in IMAGES]


def _identifier(level: str, values: Mapping[str, str]) -> Dataset:
    from pydicom import Dataset

    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(dataset, keyword, value or None)
    return dataset


def _of(series: Series) -> dict[str, str]:
    return {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.uid}


def _addresses(host: str, called: str) -> frozenset[str]:
    """What the archive may call from. Raises ArchiveAway where its name can't be told now: anybody
    else's objects would be taken."""
    try:
        found = frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None))
    except OSError:
        found = frozenset()
    if not found:
        raise ArchiveAway(f"{called}: the archive's host '{host:.100}' has no address now")
    return found


def _contexts(
    ca: str | None, own: str | None, key: str | None, called: str
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For calls out, and for calls in: both sides' certificates are held against ``ca``."""
    try:
        out = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
        into = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
        into.verify_mode = ssl.CERT_REQUIRED
        if own is not None:
            for context in (out, into):
                context.load_cert_chain(own, key)
    except (ssl.SSLError, OSError) as error:
        raise DataError(
            f"{called}: its ca, certificate or key isn't one in PEM ({type(error).__name__})"
        ) from None
    for context in (out, into):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    return out, into
