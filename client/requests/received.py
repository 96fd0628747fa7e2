"""What a request for training or evaluation brings, checked, with the model loaded from it."""

from __future__ import annotations

from typing import Any, NamedTuple

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import nn

from wardround.client.algorithms.base import integer
from wardround.client.data.hospital import Hospital
from wardround.client.state import ClientState
from wardround.common.errors import ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import (
    MAX_ABS_SUM,
    Arrays,
    decode_arrays,
    digest_arrays,
    layout_of,
)
from wardround.common.model.entries import Entries, entries_of
from wardround.common.model.named import build_model, load_arrays, model_arrays
from wardround.common.model.saved import ModelForm
from wardround.common.protocol import names as m
from wardround.common.tasks.base import Examples, Task

PERSONAL = "personal"


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


class Received(NamedTuple):
    """A request's config, the hospital's examples, the model, and the arrays that it was sent."""

    config: ConfigRecord
    examples: dict[str, Examples]
    model: nn.Module
    arrays: Arrays


def receive(
    request: RecordDict, hospital: Hospital, state: ClientState, models: ModelCache
) -> Received:
    """The model loaded with what was sent (and personal layers), and all that goes with it.

    Raises ReplyRefused for a request that doesn't fit this hospital's model.
    """
    config = config_of(request)
    totals, digest = totals_of(request)
    examples = hospital.examples(totals, digest)
    model, initial = models.get(hospital, totals, digest)
    if (theirs := config.get(m.FROZEN)) and theirs != models.frozen_digest(hospital.task):
        raise ReplyRefused(
            "this hospital makes other frozen entries of the model than the server; install the "
            "same versions of wardround and torch on both sides"
        )
    local = local_keys(config)
    arrays = shared_arrays(request, initial, local)
    if set(local) != set(models.personal(hospital)):
        own = ", ".join(models.personal(hospital)[:5]) or "none"
        raise ReplyRefused(
            f"the request names other personal layers than this hospital's settings ({own})"
        )
    load_arrays(model, arrays)
    if local:
        personal = state.load(PERSONAL, integer(config, m.STATE_ROUND))
        load_arrays(model, personal or {key: initial[key] for key in local})
    return Received(config, examples, model, arrays)


def shared_arrays(request: RecordDict, initial: Arrays, local: list[str]) -> Arrays:
    """The model's arrays in a request, held against the model that this side builds."""
    if unknown := sorted(set(local) - set(initial)):
        raise ReplyRefused(f"the request names an unknown personal layer '{unknown[0][:100]}'")
    layout = layout_of({key: value for key, value in initial.items() if key not in local})
    record = request.get(m.ARRAYS)
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused(f"the request has no '{m.ARRAYS}' record")
    return decode_arrays(record, layout)


def config_of(request: RecordDict) -> ConfigRecord:
    """The request's config record. Raises ReplyRefused if there is none."""
    record = request.get(m.CONFIG)
    if not isinstance(record, ConfigRecord):
        raise ReplyRefused(f"the request has no '{m.CONFIG}' record")
    return record


def local_keys(config: ConfigRecord) -> list[str]:
    """Names of the entries that stay at each hospital."""
    keys = config.get(m.LOCAL_KEYS, [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ReplyRefused(f"the request's '{m.LOCAL_KEYS}' must be a list of names")
    return [str(key) for key in keys]


_totals_cache: dict[str, Sums] = {}


def totals_of(request: RecordDict) -> tuple[Sums, str]:
    """The federation's summed preparation and its digest (of what was really received)."""
    record = request.get(m.TOTALS)
    if not isinstance(record, ArrayRecord):
        return {}, "none"
    claimed = config_of(request).get(m.TOTALS_DIGEST)
    if isinstance(claimed, str) and claimed in _totals_cache:
        return _totals_cache[claimed], claimed
    totals = decode_arrays(record, max_abs=MAX_ABS_SUM)
    digest = digest_arrays(totals)
    if claimed is not None and digest != claimed:
        raise ReplyRefused("the preparation that was received doesn't match its digest")
    _totals_cache.clear()  # one federation at a time: the newest is all that is asked for
    _totals_cache[digest] = totals
    return totals, digest
