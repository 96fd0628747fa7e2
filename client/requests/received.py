"""What a request for training or evaluation brings, checked, with the model loaded from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from wardround.client.data.hospital import Hospital
from wardround.client.requests.kept import PERSONAL
from wardround.client.requests.settings import check_settings
from wardround.client.secagg.blind import BlindModel, BlindModels
from wardround.client.state import ClientState
from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, layout_of, same_numbers
from wardround.common.model.entries import SHARED, Entries, entries_of
from wardround.common.model.named import build_model, load_arrays, model_arrays
from wardround.common.model.saved import ModelForm
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import TrainRequest
from wardround.common.tasks.base import Examples, Task


class ModelCache:
    """The last model built, with its initial values: many simulated hospitals share one."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._task: Task[Any] | None = None
        self._built: tuple[nn.Module, Arrays] | None = None
        self._frozen: str | None = None
        self._personal: list[str] | None = None

    def get(self, hospital: Hospital, totals: Sums, digest: str) -> tuple[nn.Module, Arrays]:
        """The model on the hospital's device, and its arrays as they were when it was built."""
        seed, device = hospital.config.federation.seed, hospital.config.training.device
        key = (digest, seed, device)
        if self._built is None or key != self._key or self._task is not hospital.task:
            model = build_model(hospital.task, totals, seed)
            self._built, self._key = (model.to(device), model_arrays(model)), key
            self._task = hospital.task  # kept: the number of one that is gone is given again
            self._frozen = self._personal = None
        return self._built

    def personal(self, hospital: Hospital) -> list[str]:
        """Names of the entries of the last model that stay at a hospital, by its own settings."""
        assert self._built is not None
        if self._personal is None:
            self._personal = entries_of(hospital.config, self._built[0]).personal
        return self._personal

    def frozen_digest(self, task: Task[Any]) -> str:
        """Of the frozen entries that this side has made for the last model."""
        assert self._built is not None
        if self._frozen is None:
            model, _ = self._built
            self._frozen = ModelForm.of(task, model, Entries.of(model)).frozen_digest
        return self._frozen


@dataclass(frozen=True, eq=False)
class Received:
    """A request, the model, and the arrays that it was sent.

    totals, digest : of the federation's preparation
    blind : where the server can't read the model, which it is
    """

    request: TrainRequest | EvaluateRequest
    hospital: Hospital
    totals: Sums
    digest: str
    model: nn.Module
    arrays: Arrays
    blind: BlindModel | None = None

    @property
    def server_round(self) -> int:
        """The request's."""
        return self.request.model.server_round

    @property
    def examples(self) -> dict[str, Examples]:
        """The hospital's examples by split. Here, and not before, its rows are touched: whatever
        fails may depend on them."""
        return self.hospital.examples(self.totals, self.digest)

    @property
    def training_examples(self) -> Examples:
        """Those that it trains on, with what a teacher says of them."""
        return self.hospital.training_examples(self.totals, self.digest)


def receive(
    request: TrainRequest | EvaluateRequest,
    hospital: Hospital,
    state: ClientState,
    models: ModelCache,
) -> Received:
    """The model loaded with what was sent (and personal layers), and all that goes with it. No row
    is looked at.

    Raises RequestRefused for a request that doesn't fit this hospital's model.
    """
    check_settings(request, hospital)
    sent = request.model
    totals, digest = totals_of(request.totals)
    model, initial = models.get(hospital, totals, digest)
    if sent.frozen and sent.frozen != models.frozen_digest(hospital.task):
        raise RequestRefused(
            "this hospital makes other frozen entries of the model than the server; install the "
            "same versions of wardround and torch on both sides"
        )
    local = sent.local_keys
    blind = _blind_model(request, hospital, state, model, initial)
    arrays = blind.arrays if blind else shared_arrays(sent, initial)
    if set(local) != set(models.personal(hospital)):
        own = ", ".join(models.personal(hospital)[:5]) or "none"
        raise RequestRefused(
            f"the request names other personal layers than this hospital's settings ({own})"
        )
    first = request.model.server_round == 1 if blind is None else blind.server_round == 0
    if first:
        _check_first(request, hospital, arrays, initial)
    load_arrays(model, arrays)
    keeps_model = hospital.config.strategy.keeps == "model"
    if local or (keeps_model and isinstance(request, EvaluateRequest)):
        personal = state.load(PERSONAL, sent.state_round)
        load_arrays(model, personal or {key: initial[key] for key in local})
    return Received(request, hospital, totals, digest, model, arrays, blind)


def _blind_model(
    request: TrainRequest | EvaluateRequest,
    hospital: Hospital,
    state: ClientState,
    model: nn.Module,
    initial: Arrays,
) -> BlindModel | None:
    """The model that the request's sum makes here, where the server can't read any."""
    sent = request.model
    if bool(sent.blind) != hospital.config.secure_aggregation.blind:
        raise RequestRefused(
            "the request's model and this hospital's settings differ in secure_aggregation.blind; "
            "set it the same on both sides"
        )
    if not sent.blind:
        return None
    entries, models = Entries.of(model, sent.local_keys), BlindModels(hospital, state)
    layout = layout_of(entries.only(initial, *SHARED))
    return models.arrived(sent, layout, entries.parameters)


def _check_first(
    request: TrainRequest | EvaluateRequest, hospital: Hospital, arrays: Arrays, initial: Arrays
) -> None:
    """The first weights are everybody's own: made from the run's seed, or a file's whose digest is
    in the plan (``client/secagg/contributions.py`` holds the model against that)."""
    config = hospital.config
    hidden = config.secure_aggregation.enabled or config.privacy.enabled
    if not isinstance(request, TrainRequest) or not hidden:
        return
    if not config.federation.initial and not all(
        same_numbers(value, initial[key]) for key, value in arrays.items()
    ):
        raise RequestRefused(
            "round 1 begins with other weights than this hospital makes from the federation's "
            "seed; install the same versions of wardround and torch on both sides (or say "
            "federation.initial in the settings, and provision them)"
        )


def shared_arrays(sent: SentModel, initial: Arrays) -> Arrays:
    """The model's arrays in a request, held against the model that this side builds."""
    local = set(sent.local_keys)
    if unknown := sorted(local - set(initial)):
        raise RequestRefused(f"the request names an unknown personal layer '{unknown[0][:100]}'")
    return sent.decoded(layout_of({k: one for k, one in initial.items() if k not in local}))


_totals_cache: dict[str, tuple[Totals, Sums]] = {}


def totals_of(totals: Totals | None) -> tuple[Sums, str]:
    """The federation's summed preparation and its digest (of what was really received).

    Raises RequestRefused as ``Totals.decoded``.
    """
    if totals is None:
        return {}, "none"
    if totals.digest is not None and totals.digest in _totals_cache:
        before, sums = _totals_cache[totals.digest]
        if totals.has_bytes_of(before):  # a digest is the server's word: the bytes are pinned
            return sums, totals.digest
    sums, digest = totals.decoded()
    _totals_cache.clear()  # one federation at a time: the newest is all that is asked for
    _totals_cache[digest] = totals, sums
    return sums, digest
