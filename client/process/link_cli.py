"""``wardround link``: the links that a hospital keeps. Connects to nobody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.common.command_line import example, new_commands, new_group

if TYPE_CHECKING:
    from wardround.client.site.kit import Kit

commands = new_commands()
link = new_group("link", "The links that a hospital keeps: `wardround link list KIT`.")
commands.add_typer(link)

KitArgument = Annotated[
    Path, typer.Argument(metavar="KIT", help="The hospital's start-up kit.", readable=False)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The linkage's study.")]


@link.callback()
def _group() -> None:
    """The links that a hospital keeps: `wardround link list KIT`."""


@link.command("list", epilog=example("wardround link list kits/lab"))
def list_links(kit: KitArgument) -> None:
    """List the links of a kit: persons, parties, when, and for which studies."""
    from wardround.client.links.shown import listed
    from wardround.client.site.kit import Kit

    for line in listed(Kit.open(kit).folder / "state"):
        print(line)


@link.command("show", epilog=example("wardround link show kits/lab same-persons"))
def show(kit: KitArgument, name: NameArgument) -> None:
    """Show what a link is: with whom, by which identifiers, for which studies, its digest.

    The digest is the same at all parties: compare it by phone.
    """
    from wardround.client.links.shown import shown
    from wardround.client.site.kit import Kit

    for line in shown(Kit.open(kit).folder / "state", name):
        print(line)


@link.command("forget", epilog=example("wardround link forget kits/lab same-persons"))
def forget_link(kit: KitArgument, name: NameArgument) -> None:
    """Forget a link, at once: no study can use it any more, and no copy is kept.

    A study that has read it before goes on: reject that one.
    """
    from wardround.client.links.shown import forgotten
    from wardround.client.site.kit import Kit

    opened = Kit.open(kit)
    print(forgotten(opened.state, name))
    _note(opened)


def _note(kit: Kit) -> None:
    """The audit log is written by the running client, or else here."""
    from wardround.client.links.forget import note_forgotten
    from wardround.client.links.kept import FOLDER
    from wardround.client.site.kit import AUDIT
    from wardround.client.site.stop import LOCK
    from wardround.common.audit.log import AuditLog
    from wardround.common.durable.lock import try_lock
    from wardround.common.errors import AuditError

    try:
        lock = try_lock(kit.state / LOCK)
    except OSError:
        return  # who can't see whether it runs doesn't write its log
    if lock is None:
        return
    with lock:
        try:
            with AuditLog.open(kit.state / AUDIT, kit.name, kit.identity) as audit:
                note_forgotten(kit.state / FOLDER, audit)
        except AuditError as error:
            raise AuditError(f"forgotten, and not yet in the audit log: {error}") from None
