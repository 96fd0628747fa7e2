"""What a group's clients do for their privacy in a round: they pay together, clip and add noise.

Each client's budget is its own, and so is its refusal; what is paid is written down in one go
(``client/privacy/together.py``), before anybody trains. How an update is clipped and noised is the
hospital's own code (``client/privacy/round.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.book import Balance
from wardround.client.privacy.round import PrivateRound
from wardround.client.privacy.together import settle_together
from wardround.common.errors import PrivacyRefused, reason_of
from wardround.common.protocol.cohort import common_part
from wardround.common.protocol.message import Content
from wardround.common.protocol.train import TrainRequest
from wardround.common.secagg.content import content_digest
from wardround.common.settings import PrivacyTable
from wardround.common.text import one_line
from wardround.simulations.executors.sums import Refused, failed_with

OpenHospital = Callable[[int], Hospital]


class GroupPrivacy:
    """The privacy of one training message to a group.

    table : of the configuration that all its clients have
    """

    def __init__(
        self, request: TrainRequest, open_hospital: OpenHospital, announced: Callable[[int], int]
    ) -> None:
        self._request, self._open, self._announced = request, open_hospital, announced
        self._rounds: dict[int, PrivateRound] = {}

    @property
    def of_hospitals(self) -> bool:
        """Whether a hospital's whole update is clipped."""
        return self._table.unit == "hospital"

    @property
    def clips_alone(self) -> bool:
        """Whether a client's update is clipped as a whole, and the noise is the server's."""
        return self.of_hospitals and self._table.noise == "central"

    @property
    def stepwise(self) -> bool:
        """Whether each step of a client is private."""
        return self._table.stepwise

    @property
    def _table(self) -> PrivacyTable:
        return self._open(self._request.model.clients[0]).config.privacy

    def round_of(self, node_id: int) -> PrivateRound:
        """A client's round, its draws and noise from the beginning. Raises RequestRefused for a
        false proposal."""
        # all follow from the settings, which all have, and how many units were announced
        hospital, units = self._open(node_id), self._announced(node_id)
        found = self._rounds.get(units)
        if found is None:
            found = self._rounds[units] = PrivateRound.of(self._request, hospital, units)
        return PrivateRound(hospital, found.proposal, found.schedule)

    def settle(
        self,
        content: Content,
        node_ids: Sequence[int],
        check: Callable[[int], object],
        refused: Refused,
    ) -> tuple[dict[int, Balance], list[int]]:
        """Have these clients pay for what the message asks: balances of those who could, and whose
        budget or ledger doesn't allow it; why they, and others, don't train goes to ``refused``.

        check : what fails on a client's rows, before it pays
        """
        rounds: dict[int, PrivateRound] = {}
        spent = []
        for node in node_ids:
            try:
                check(node)
                rounds[node] = self.round_of(node)
            except PrivacyRefused as error:
                refused[node] = one_line(reason_of(error))
                spent.append(node)
            except Exception as error:
                refused[node] = failed_with(reason_of(error))
        digest = content_digest(common_part(content)).hex()
        found, out = settle_together(list(rounds.values()), digest)
        balances = {}
        for node, one in rounds.items():
            name = one.hospital.name
            if name in found:
                balances[node] = found[name]
            else:
                refused[node] = one_line(reason_of(out[name]))
                spent.append(node)
        return balances, spent
