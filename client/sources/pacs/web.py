"""An archive by DICOMweb: QIDO-RS finds, WADO-RS gives (PS3.18), through dicomweb-client.

No proxy of the environment, no redirect and no ``.netrc``: identified images go where site.toml
says, and nowhere else. What one answer may hold is bounded while it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
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
)
from wardround.client.sources.pacs.secrets import check_pem, read_secret
from wardround.client.sources.pacs.settings import DicomWebSource
from wardround.common.errors import DataError

if TYPE_CHECKING:
    import requests
    from dicomweb_client.api import DICOMwebClient

_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP statuses after which the same may succeed."""
_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "PatientID": "00100020",
    "AccessionNumber": "00080050",
    "StudyDescription": "00081030",
    "Modality": "00080060",
    "SeriesDescription": "0008103E",
    "NumberOfSeriesRelatedInstances": "00201209",
}
ANSWER_BYTES = 64 << 20
"""Of a page of results."""


class WebArchive:
    """``source = "dicomweb"``.

    base : the folder of ``site.toml``; called : how messages name the source

    Raises DataError for a secret, certificate or package that isn't there.
    """

    def __init__(self, settings: DicomWebSource, base: Path, called: str) -> None:
        try:
            import requests
            from dicomweb_client.api import DICOMwebClient
        except ImportError:
            raise DataError(
                f"{called}: DICOMweb needs dicomweb-client: pip install 'wardround[imaging]'"
            ) from None
        self._settings, self._called = settings, called
        self._most = ANSWER_BYTES
        self._answer: requests.Response | None = None
        session = requests.Session()
        session.trust_env, session.max_redirects = False, 0
        session.verify = check_pem(settings.ca, base, f"{called} ca") or True
        if settings.user is not None and settings.password is not None:
            secret = read_secret(settings.password, base, f"{called} password")
            session.auth = (settings.user.encode(), secret.encode())  # type: ignore[assignment]
        elif settings.token is not None:
            secret = read_secret(settings.token, base, f"{called} token")
            session.headers["Authorization"] = f"Bearer {secret}"
        session.hooks["response"] = [self._bounded]
        self._session = session
        self._client: DICOMwebClient = DICOMwebClient(
            settings.url.rstrip("/"),
            session=session,
            timeout=settings.timeout_s,
            permissive_uid=True,
        )
        self._client.set_http_retry_params(retry=False)

    def greet(self) -> str:
        with self._asking():
            self._client.search_for_studies(limit=1, offset=0, fields=["StudyInstanceUID"])
        return "it answers searches (QIDO-RS)"

    def studies(self, asked: Mapping[str, str], most: int) -> list[Study]:
        search = partial(
            self._client.search_for_studies,
            fields=["StudyDescription", "AccessionNumber", "PatientID"],
            search_filters=dict(asked),
        )
        found = self._pages(search, "StudyInstanceUID", most)
        return [
            Study(
                uid,
                _text(one, "PatientID"),
                _text(one, "AccessionNumber"),
                _text(one, "StudyDescription"),
            )
            for uid, one in found.items()
        ]

    def series(self, study: str, most: int) -> list[Series]:
        search = partial(
            self._client.search_for_series,
            study,
            fields=["SeriesDescription", "Modality", "NumberOfSeriesRelatedInstances"],
        )
        found = self._pages(search, "SeriesInstanceUID", most)
        return [
            Series(
                study,
                uid,
                _text(one, "Modality"),
                _text(one, "SeriesDescription"),
                int(count) if (count := _text(one, _COUNT)).isdecimal() else None,
            )
            for uid, one in found.items()
        ]

    def objects(self, series: Series, take: Take) -> None:
        self._most = (self._settings.limits.max_series_mb + 1) << 20
        with self._asking():
            # as they are stored: nothing is decoded and encoded again on the way
            for dataset in self._client.iter_series(
                series.study, series.uid, media_types=(("application/dicom", "*"),)
            ):
                take(dataset)

    def close(self) -> None:
        self._session.close()

    # --- below ------------------------------------------------------------------------------------
    def _pages(
        self, search: Callable[..., list[dict[str, Any]]], key: str, most: int
    ) -> dict[str, dict[str, Any]]:
        """All results by their UID, page by page; a service that knows no pages gives all."""
        found: dict[str, dict[str, Any]] = {}
        self._most = ANSWER_BYTES
        while True:
            with self._asking():
                page = search(limit=self._settings.page, offset=len(found))
            new = {uid: one for one in page if UID.fullmatch(uid := _text(one, key))}
            before = len(found)
            found |= new
            if len(found) > most:
                raise NotGiven(f"the archive has more than {most} of them; narrow what is asked")
            if len(page) < self._settings.page or len(found) == before:
                return found

    def _bounded(self, response: requests.Response, **_: Any) -> requests.Response:
        """Redirects are refused, and so is an answer that is too large, while it is read."""
        self._answer = response
        if response.is_redirect:
            raise DataError(
                f"{self._called}: the service sends on to another address; write that in url, if "
                "it is right"
            )
        read, most = response.iter_content, self._most

        def counted(*words: Any, **named: Any) -> Iterator[bytes]:
            count = 0
            for chunk in read(*words, **named):
                count += len(chunk)
                if count > most:
                    raise NotGiven("more bytes than limits.max_series_mb allows")
                yield chunk

        response.iter_content = counted  # type: ignore[method-assign]
        return response

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What goes wrong, in words of ours."""
        import requests

        called = self._called
        try:
            with quiet():
                yield
        except (NotGiven, DataError):
            raise
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise DataError(
                    f"{called}: the service refuses this user (HTTP {status}); check user and "
                    "password, or token"
                ) from None
            if status in _BUSY:
                raise ArchiveAway(f"{called}: the service answers HTTP {status}") from None
            raise NotGiven(f"the archive answered HTTP {status}") from None
        except requests.exceptions.SSLError:
            raise DataError(
                f"{called}: the service's certificate isn't trusted, or isn't of this address; "
                "name its authority in ca"
            ) from None
        except (requests.RequestException, OSError) as error:
            raise ArchiveAway(
                f"{called}: the service can't be reached ({type(error).__name__}); is it up, and "
                "url right?"
            ) from None
        except Exception as error:  # of the library, of pydicom: they quote what they read
            raise NotGiven(f"the answer can't be read ({type(error).__name__})") from None
        finally:
            if self._answer is not None:  # one that was refused hasn't been read to its end
                self._answer.close()


_COUNT = "NumberOfSeriesRelatedInstances"


def _text(one: Mapping[str, Any], keyword: str) -> str:
    """A value of DICOM's JSON form (PS3.18 F.2) as text."""
    element = one.get(_TAGS[keyword])
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]).strip() if isinstance(values, list) and values else ""
