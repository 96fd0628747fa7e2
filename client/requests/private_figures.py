"""A round's figures at a hospital under differential privacy: paid for, counted, noised.

What is asked for are the task's private sums (``Task.private_sums``) of each split that the
hospital takes part with, and of a split without rows zeros: whether it has any is nobody's to know.
What fails on rows fails unseen: the noise leaves all the same, on zeros, with masks and without. No
mean of the hospitals' own figures is asked for: it would be one more release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.sums import PrivateSum, records_of
from wardround.client.requests.layouts import private_layout
from wardround.client.requests.own_model import keep_own_model
from wardround.client.requests.received import ModelCache, Received
from wardround.client.secagg.failing import or_zeros
from wardround.client.secagg.masking import MaskedAsk, check_exactly, mask_sums, shapes_of
from wardround.client.training.evaluation import model_outputs
from wardround.common.figures.sums import Sums
from wardround.common.privacy.figures import figure_release, figure_sums
from wardround.common.protocol.evaluate import EvaluateReply, EvaluateRequest, by_split, named
from wardround.common.protocol.message import Content
from wardround.common.tasks.base import Examples
from wardround.common.tasks.private_sums import PrivateSums


@dataclass(frozen=True)
class PrivateFigures:
    """What was paid for.

    zeros : the sums of no rows, of each split that was asked for
    """

    received: Received
    measure: PrivateSums
    private: PrivateSum
    zeros: Sums

    @classmethod
    def begin(
        cls,
        received: Received,
        models: ModelCache,
        request: bytes,
        splits: Sequence[str],
    ) -> PrivateFigures:
        """Write down what it costs. ``request``: digest of the request as it came.

        Raises PrivacyRefused where the hospital's limit forbids it; TaskError where the task has no
        such sums.
        """
        hospital = received.hospital
        measure = figure_sums(hospital.config, hospital.task, received.totals)
        of_each = private_layout(hospital, received.totals, received.digest, models)
        zeros = named(dict.fromkeys(splits, of_each))
        private = PrivateSum.begin(
            hospital,
            "evaluation",
            received.request.model.server_round,
            measure.sensitivity * records_of(hospital),
            figure_release(hospital.config),
            request,
            splits=splits,
        )
        return cls(received, measure, private, zeros)

    def masked(self, asked: MaskedAsk) -> Content:
        """The answer to a request for a masked sum."""
        check_exactly(asked.task, shapes_of(self.zeros))
        return mask_sums(asked, self._sums, noised=self.private.noised)

    def plain(self) -> Content:
        """The answer to a request for plain values."""
        purpose, shapes = f"evaluate {self.private.number}", shapes_of(self.zeros)
        sums = or_zeros(self.received.hospital, purpose, self._sums, shapes)
        return EvaluateReply(by_split(self.private.noised(sums))).to_records()

    def _sums(self) -> Sums:
        hospital, examples = self.received.hospital, self.received.examples
        request = self.received.request
        if isinstance(request, EvaluateRequest):
            keep_own_model(hospital, self.received, request.best_round)
        training, found = hospital.config.training, dict(self.zeros)
        for split, part in examples.items():
            if any(name.startswith(f"{split}/") for name in self.zeros) and len(part):
                kept = _capped(hospital, split, part)
                outputs = model_outputs(self.received.model, kept, training)
                outputs = outputs.detach().float().cpu()
                own = self.measure.sums(outputs, kept.targets.detach().cpu())
                found |= named({split: own})
        return found


def _capped(hospital: Hospital, split: str, examples: Examples) -> Examples:
    """No more rows of a patient than privacy allows; of each row there is one example."""
    if hospital.config.privacy.unit != "patient":
        return examples
    rows = hospital.capped_rows(hospital.parts()[split])
    return examples.select(np.asarray(rows))
