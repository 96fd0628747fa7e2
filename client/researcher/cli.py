"""``wardround study``: commands of a researcher, and of a coordinator, with a kit of that role."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.common.command_line import (
    SetOption,
    example,
    new_commands,
    new_console,
    new_group,
)

if TYPE_CHECKING:
    from wardround.client.researcher.network import Network, StudyHandle

KitOption = Annotated[
    Path | None,
    typer.Option(
        "--kit",
        metavar="KIT",
        help="Your kit. Default: WARDROUND_KIT of the environment, or ./kit.",
        show_default=False,
        readable=False,
    ),
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Its name, or how its id begins.")
]
commands = new_commands()
study = new_group("study", "Ask a network of hospitals: submit studies, watch and fetch them.")
commands.add_typer(study)


@study.command("enroll", epilog=example("wardround study enroll anna kits/anna"))
def enroll(
    first: Annotated[
        str, typer.Argument(metavar="NAME|KIT", help="Your name; with --answer the kit.")
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="KIT", help="The folder to make.", show_default=False, readable=False
        ),
    ] = None,
    answer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The coordinator's answer: complete the kit."),
    ] = None,
    coordinator: Annotated[
        bool, typer.Option("--coordinator", help="Keys of a coordinator, not of a researcher.")
    ] = False,
) -> None:
    """Make your own keys, which never leave your machine.

    `enroll NAME KIT` writes a request to hand over; then `enroll KIT --answer FILE`.
    """
    from wardround.client.site import enroll as enrolment
    from wardround.common.names import Role, name_of

    if answer is not None:
        kit = enrolment.accept(answer, folder or Path(first))
        print(f"{kit.folder}: the kit of {kit.info} for '{kit.description.federation}' is complete")
        print(f"compare with the coordinator: authority {kit.authority_fingerprint}")
        print(f"next: wardround study list --kit {kit.folder}")
        return
    name = name_of(first)
    role: Role = "coordinator" if coordinator else "researcher"
    path = enrolment.request(name, folder or Path(name), role)
    print(f"{path}: hand this to the coordinator; it holds no secret")
    print(f"compare by phone: {enrolment.fingerprint(path)}")
    print(f"then: wardround study enroll {path.parent} --answer {name}.answer")


@study.command("submit", epilog=example("wardround study submit study.toml --kit kits/anna"))
def submit(
    file: Annotated[
        Path, typer.Argument(metavar="STUDY_TOML", help="What is asked, of whom, and why.")
    ] = Path("study.toml"),
    kit: KitOption = None,
    show_only: Annotated[
        bool, typer.Option("--show", help="Show what would be asked, and submit nothing.")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Show what a study asks, sign it with the kit's key, and submit it to the network.

    The same file again is the same study, and is submitted once.
    """
    with _open(kit) as network:
        study = network.prepare(file, overrides or [])
        for what, how in network.facts(study):
            print(f"{what:<17} {how}")
        if show_only:
            return
        handle = network.submit(study)
        if handle.new:
            print(f"submitted: {handle.name} ({handle.id[:12]})")
        else:
            print(f"this very study was submitted before: {handle.name} ({handle.id[:12]})")
        _say_next(handle, kit)


@study.command("list", epilog=example("wardround study list --kit kits/anna"))
def list_studies(
    kit: KitOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
) -> None:
    """List your studies that go on; with a coordinator's kit everybody's."""
    from wardround.client.researcher.showing import table
    from wardround.common.study.states import OVER, STATES

    states = STATES if everything else tuple(one for one in STATES if one not in OVER)
    with _open(kit) as network:
        found = network.studies(*states, most=1000)
        if not found:
            more = "" if everything else " goes on; --all shows those that are over"
            print(f"no study{more}")
            return
        new_console(width=160).print(table(found))


@study.command("show", epilog=example("wardround study show sepsis-mortality"))
def show(which: StudyArgument, kit: KitOption = None) -> None:
    """Show what a study asks, where it stands, and what each hospital has said."""
    from wardround.client.researcher.showing import clock, standing
    from wardround.common.text import one_line

    with _open(kit) as network:
        handle = network.study(which)
        for what, how in network.facts(handle.signed().study):
            print(f"{what:<17} {how}")
        print(f"{'researcher':<17} {handle.line.researcher}")
        print(f"{'stands':<17} {standing(handle.line)} (since {clock(handle.line.changed)})")
        for one in handle.decisions():
            reason = f": {one_line(one.reason)}" if one.reason else ""
            print(f"  {one.hospital:<15} {one_line(one.word, 20)}{reason}")


@study.command("watch", epilog=example("wardround study watch sepsis-mortality"))
def watch(which: StudyArgument, kit: KitOption = None) -> None:
    """Tell what happens to a study until it is over.

    Ends with 0 where it is complete, and with 14 where it failed, was aborted or has expired.
    """
    with _open(kit) as network:
        handle = network.study(which)
        for update in handle.watch():
            print(f"{_when(update.event.time) if update.event else '':<21}{update}", flush=True)
        _end(handle, kit)


@study.command("abort", epilog=example("wardround study abort sepsis-mortality --reason typo"))
def abort(
    which: StudyArgument,
    reason: Annotated[
        str, typer.Option(metavar="REASON", help="For the hospitals, and the audit logs.")
    ],
    kit: KitOption = None,
) -> None:
    """End a study: the hospitals are told, and nothing more is asked of them."""
    with _open(kit) as network:
        handle = network.study(which)
        print(f"{handle.name} ({handle.id[:12]}): {handle.abort(reason).line.state}")


@study.command("rerun", epilog=example("wardround study rerun sepsis-mortality"))
def rerun(
    which: StudyArgument,
    kit: KitOption = None,
    ends: Annotated[
        str, typer.Option(metavar="DATE", help="Another end, where the study's has passed.")
    ] = "",
) -> None:
    """Ask the very same once more, of a study that is over."""
    with _open(kit) as network:
        handle = network.study(which).rerun(ends)
        word = "submitted" if handle.new else "was submitted before"
        print(f"{handle.name} ({handle.id[:12]}): {word}")
        _say_next(handle, kit)


@study.command("fetch", epilog=example("wardround study fetch sepsis-mortality results"))
def fetch(
    which: StudyArgument,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="To be made. Default: results/STUDY-ID.", show_default=False
        ),
    ] = None,
    kit: KitOption = None,
) -> None:
    """Fetch a complete study's model, report and figures, each file held against what the server
    signed. The same again goes on after a break.
    """
    from wardround.common.results.places import found_in

    with _open(kit) as network:
        handle = network.study(which)
        done = handle.result(folder, wait=False, progress=_progress)
        print(f"{done}: complete, as the server signed it")
        for line in found_in(done):
            print(f"  {line}")


def _open(kit: Path | None) -> Network:
    from wardround.client.researcher import Network

    network = Network(kit)
    if line := network.warning:
        print(line)
    return network


def _with(kit: Path | None) -> str:
    """The option that names the same kit again, as one line of a shell."""
    return f" --kit {shlex.quote(str(kit))}" if kit is not None else ""


def _say_next(handle: StudyHandle, kit: Path | None) -> None:
    from wardround.client.researcher.showing import standing

    print(f"now: {standing(handle.line)}")
    print(f"next: wardround study watch {handle.id[:12]}{_with(kit)}")


def _end(handle: StudyHandle, kit: Path | None) -> None:
    from wardround.client.researcher.showing import standing
    from wardround.common.errors import StudyRefused

    if handle.line.state != "complete":
        raise StudyRefused(f"'{handle.name}' has no results: {standing(handle.line)}")
    print(f"next: wardround study fetch {handle.id[:12]}{_with(kit)}")


def _when(seconds: float) -> str:
    from wardround.client.researcher.showing import clock

    return clock(seconds)


def _progress(name: str, here: int, size: int) -> None:
    if here == size:
        print(f"{name}: {size} bytes", flush=True)
