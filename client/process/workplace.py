"""What a hospital's process computes with: hospital, task, and the app that answers by them.

All of it is made of one set of terms (``client/site/terms.py``), and anew when these differ: with
the app goes the model that it had built, with the hospital its split, prepared examples and units,
with both the processes that train. So nothing that was made under other settings answers, however
long the process lives.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wardround.client.app import create_client_app
from wardround.client.data.held_out import key_digest
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard
from wardround.client.data.witness import Witness
from wardround.client.site.held_out import held_out_key
from wardround.client.site.ledger import ledger_of
from wardround.client.site.terms import Terms
from wardround.client.sources.kept import KeptData
from wardround.client.training.distributed import TrainingProcesses
from wardround.client.training.settings import check_training
from wardround.common.config.task import make_task
from wardround.common.errors import PolicyRefused


class Workplace:
    """Hospital and app of the present terms.

    Parameters
    ----------
    data : the study's, which follow the terms
    model_folder : where the hospital's own whole model is kept, if entries of it are personal
    witness : who knows how far the hospital's ledger had come
    outward : what may leave of an error's or a warning's text
    on_failure : as ``Place`` has it

    Raises WardroundError, also for a mistake in the data, which are read at once.
    """

    def __init__(
        self,
        terms: Terms,
        data: KeptData,
        model_folder: Path,
        witness: Witness,
        outward: Callable[[str], str],
        on_failure: Callable[[str, str], None],
    ) -> None:
        self._data = data
        self._model_folder, self._witness = model_folder, witness
        self._outward, self._on_failure = outward, on_failure
        self._terms: Terms | None = None
        self._make(terms)

    def take_up(self, terms: Terms) -> str:
        """Let these terms hold. Gives what differs from the last ones; '' if they are the same.

        Raises WardroundError if nothing can be made of them: then they are tried again next time,
        and until then what there was is not to be asked for anything.
        """
        others = terms.others(self._terms) if self._terms is not None else "not made yet"
        if others:
            self._terms = None
            self.close()
            self.hospital.forget()  # its rows needn't be here twice
            self._make(terms)
        self.hospital.roster = terms.roster
        return others

    def _make(self, terms: Terms) -> None:
        kit, config = terms.kit, terms.config
        task = make_task(config)
        check_training(config, task)
        self._data.take_up(terms.data, config)
        key = held_out_key(terms.site, kit.folder)
        hospital = Hospital(
            OwnShard(
                kit.name,
                task,
                config,
                lambda: self._data.loaded(task.load),
                held_out_key=key,
                before=lambda: self._data.left_out,
            ),
            keys=Keys(kit.identity, terms.roster),
            place=Place(
                ledger_path=ledger_of(terms.site, kit.folder),
                witness=self._witness,
                each_patient=terms.site.ledger_units == "patients",
                model_folder=self._model_folder,
                processes=TrainingProcesses(config) if config.training.processes > 1 else None,
                share=terms.site.share(),
                on_failure=self._on_failure,
                held_out=key_digest(key),
                source=terms.data.words if terms.study else "",
            ),
        )
        hospital.parts()
        if edited := terms.edited():
            raise PolicyRefused(f"{edited} was edited while it was read; it is read again")
        self.hospital, self._terms = hospital, terms
        self.app = create_client_app(lambda context: hospital, outward=self._outward)

    def close(self) -> None:
        """End the processes that train."""
        if self.hospital.processes is not None:
            self.hospital.processes.close()
