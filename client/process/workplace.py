"""What a hospital's process computes with: hospital, task, and the app that answers by them.

All of it is made of one set of terms (``client/site/terms.py``), and anew when these differ: with
the app goes the model that it had built, with the hospital its split, prepared examples and units,
with both the processes that train. So nothing that was made under other settings answers, however
long the process lives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wardround.client.app import create_client_app
from wardround.client.data.held_out import key_digest
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard
from wardround.client.data.watch import Lines
from wardround.client.data.witness import Witness
from wardround.client.joint.people import linked_people
from wardround.client.links.kept import FOLDER, Record
from wardround.client.links.store import LinkStore, Most
from wardround.client.site.finished import named_model
from wardround.client.site.held_out import held_out_key
from wardround.client.site.hold_back import check_held_back
from wardround.client.site.joint_rules import identifiers_of
from wardround.client.site.ledger import ledger_of
from wardround.client.site.opted_out import OptedOut, opt_out_path, patients_key
from wardround.client.site.terms import Terms
from wardround.client.site.trained import Trained, TrainedOn
from wardround.client.sources.kept import KeptData, May
from wardround.client.training.distributed import TrainingProcesses
from wardround.client.training.precision import slow_precision
from wardround.client.training.settings import check_training
from wardround.common.config.task import make_task
from wardround.common.errors import PolicyRefused
from wardround.common.settings import LinkageOptions
from wardround.common.tasks.base import Task
from wardround.common.trust.pki import now_utc

log = logging.getLogger("wardround.client")


class Workplace:
    """Hospital and app of the present terms.

    Parameters
    ----------
    data : the study's, which follow the terms
    model_folder : where the hospital's own whole model is kept, if entries of it are personal
    witness : who knows how far the hospital's ledger had come
    outward : what may leave of an error
    on_failure : as ``Place`` has it
    audit : takes lines on links

    Raises WardroundError, also for a mistake in the data, which are read at once.
    """

    def __init__(
        self,
        terms: Terms,
        data: KeptData,
        model_folder: Path,
        witness: Witness,
        outward: Callable[[Exception], str],
        on_failure: Callable[[str, str], None],
        audit: Lines,
    ) -> None:
        self._data, self._audit = data, audit
        self._model_folder, self._witness = model_folder, witness
        self._outward, self._on_failure = outward, on_failure
        self._terms: Terms | None = None
        self._reads = 0
        self._computed: str | None = None
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
        self.hospital.coordinator = terms.kit.description.server
        return others

    def _make(self, terms: Terms) -> None:
        kit, config = terms.kit, terms.config
        task = make_task(config)
        check_training(config, task)
        if slow := slow_precision(config.training):
            log.warning("%s", slow)
        whose = getattr(terms.data.source, "patient_id", None)
        # before anything is read
        check_held_back(terms.site, config, terms.data.is_taken, whose)
        may = May(tuple(terms.site.columns), tuple(terms.site.modalities))
        self._data.take_up(terms.data, config, may)
        key = held_out_key(terms.site, kit.folder)
        listed = opt_out_path(terms.site, kit.folder)
        patients = patients_key(key)
        self._opted_out = OptedOut(listed, patients, terms.site.opt_out is not None)
        self._trained = Trained(kit.state, patients)
        hospital = Hospital(
            OwnShard(
                kit.name,
                task,
                config,
                lambda: self._data.loaded(task.load_large),
                held_out_key=key,
                before=lambda: self._data.left_out,
                without=lambda raw: self._without(task, raw),
            ),
            keys=Keys(kit.identity, terms.roster, kit.description.server),
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
                finished=lambda: named_model(terms),
                study=terms.study.name if terms.study else kit.description.federation,
                links=self._links(terms, lambda: hospital.plan.run),
            ),
        )
        hospital.parts()
        if edited := terms.edited():
            raise PolicyRefused(f"{edited} was edited while it was read; it is read again")
        self.hospital, self._terms = hospital, terms
        self.app = create_client_app(lambda context: hospital, outward=self._outward)

    def _links(self, terms: Terms, run: Callable[[], str]) -> LinkStore:
        """The hospital's links, as the study of these terms sees them."""
        study, site = terms.study, terms.site
        options = terms.config.procedure.settings
        about = Record(
            name=study.name if study is not None else terms.kit.description.federation,
            study=study.id if study is not None else "",
            asked_by=study.researcher if study is not None else "",
            parties=sorted(terms.roster),
            used_by=options.used_by if isinstance(options, LinkageOptions) else [],
            identifiers=identifiers_of(terms.config),
        )
        return LinkStore(
            terms.kit.state / FOLDER,
            lambda: replace(about, run=run(), made=now_utc().isoformat(timespec="seconds")),
            Most(site.max_linkages, site.max_linked_ids, max(site.smallest_link, site.min_persons)),
            self._audit,
        )

    def _without(self, task: Task[Any], raw: Any) -> Any:
        self._reads += 1
        return self._opted_out.without(task, raw)

    def look_again(self) -> None:
        """Before a request: who has opted out meanwhile is in nothing any more. Raises DataError
        where the list can't be read."""
        if self._opted_out.has_changed():
            self.hospital.forget()

    def note_trained(self, server_round: int) -> None:
        """Before a training answer leaves: whose rows it is of. Raises ProvisionError, OSError."""
        self._note(server_round, self.hospital.patients(["train"]), self._reads)

    def note_computed(self) -> None:
        """The same of a joint study's letters, once in a run: whose linked rows they are of."""
        run = self.hospital.plan.run
        if self._computed != run and (whose := linked_people(self.hospital)) is not None:
            self._note(1, whose.patients, whose.version)
            self._computed = run

    def _note(self, server_round: int, patients: Iterable[str] | None, version: int) -> None:
        assert self._terms is not None
        study, run = self._terms.study, self.hospital.plan.run
        name = study.name if study is not None else self._terms.kit.description.federation
        of = TrainedOn(run, study.id if study is not None else "", name)
        self._trained.note(of, server_round, patients, version)

    def close(self) -> None:
        """End the processes that train."""
        if self.hospital.processes is not None:
            self.hospital.processes.close()
