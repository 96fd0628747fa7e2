"""What a simulated study of several parties' columns begins with: the link that it names.

Between machines that is another study, which hospitals approve by itself. Here it is made first,
by the protocol that it would be made by, and lies beside the run.
"""

from __future__ import annotations

from wardround.client.links.kept import Kept
from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.run.directory import SIMULATED, RunDirectory
from wardround.common.settings import LINKAGE, ProcedureTable
from wardround.server.observer import Observer
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.ask import ask

LINKS, _LINKAGE = "links", "linkage"
"""In a run directory: each hospital's links, and what the linkage told."""


def link_first(config: Config, population: Population, run: RunDirectory, go_on: str) -> bool:
    """Link the hospitals of a simulation, unless its study needs no link or they have it; whether
    that was done.

    Raises WardroundError, such as where too few persons are at all of them.
    """
    name = getattr(config.procedure.settings, "link", "")
    if not name or all(Kept(run.path / LINKS / one).find(name) for one in population.names):
        return False
    asked = ProcedureTable(name=LINKAGE, used_by=["*"], smallest=_FEWEST, padded=1)
    federation = config.federation.model_copy(update={"name": name})
    study = config.study.model_copy(update={"name": name}) if config.study is not None else None
    changed = {"federation": federation, "study": study, "procedure": asked}
    linkage = config.model_copy(update=changed)
    hospitals = Population(linkage, make_task(linkage))
    hospitals.keep_links(run.path / LINKS)
    text = linkage.to_toml(run.path / _LINKAGE / "run")
    own = RunDirectory.at(run.path / _LINKAGE, text, kind=SIMULATED)
    ask(linkage, hospitals, own, Observer(), go_on)
    return True


_FEWEST = 3
"""As few as a linkage may have: what is simulated is the study that follows."""
