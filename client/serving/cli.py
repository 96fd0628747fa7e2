"""``wardround serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from wardround.common.command_line import LogOption, example, new_commands, new_console

commands = new_commands()


def _file(text: str, name: str = "FILE") -> object:
    return typer.Option(metavar=name, help=text, show_default=False)


KitOption = Annotated[
    Path | None,
    _file("This hospital's kit: its federation's server, and it itself, may have signed.", "KIT"),
]
SignerOption = Annotated[
    list[str] | None,
    _file("A further public key that may have signed: 64 hexadecimal digits, or a file.", "KEY"),
]
UnsignedOption = Annotated[
    bool,
    typer.Option("--unsigned", help="A model that nobody signed, on this machine: for trials."),
]
HospitalOption = Annotated[str | None, _file("Whose, where layers are personal.", "NAME")]
CalibrationOption = Annotated[
    Path | None, _file("This hospital's calibration of the model, signed by it.")
]
ReferenceOption = Annotated[
    Path | None, _file("Counts that recent rows are held against, instead of the model's own.")
]
ThresholdOption = Annotated[
    str,
    _file("From which on a card warns: youden, sensitivity=0.9, or a probability.", "RULE"),
]
CriticalOption = Annotated[str, _file("From which on it is critical; left out: never.", "RULE")]
MapOption = Annotated[
    Path | None,
    _file("Which records are the inputs, where the study had no [cohort]; own codes and units."),
]
TokenOption = Annotated[Path | None, _file("Who asks shows one of these tokens, one a line.")]
CertificateOption = Annotated[Path | None, _file("PEM; with --tls-key.")]
KeyOption = Annotated[Path | None, _file("PEM.")]
AuthorityOption = Annotated[
    Path | None, _file("PEM: who asks shows a certificate of this authority.")
]
PlainOption = Annotated[
    bool, typer.Option("--plain", help="Off this machine without TLS: a proxy in front has it.")
]
NameOption = Annotated[list[str] | None, _file("It is asked for under this name too.", "NAME")]
RowsOption = Annotated[int, typer.Option(min=1, max=1_000_000, help="Of one request.")]
BodyOption = Annotated[int, typer.Option(min=1, max=1024, help="Of one request.")]
EncoderOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="A text model's encoder, or a language model's base, where it isn't installed.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[int, typer.Option(min=1, max=64, help="That compute one request.")]


@commands.command(epilog=example("wardround serve sepsis-onnx --kit kit"))
def serve(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="An export, a model folder, a run, or a study's results."
        ),
    ],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where; off this machine it asks for more.")
    ] = "127.0.0.1:8090",
    kit: KitOption = None,
    signer: SignerOption = None,
    unsigned: UnsignedOption = False,
    hospital: HospitalOption = None,
    calibration: CalibrationOption = None,
    reference: ReferenceOption = None,
    threshold: ThresholdOption = "",
    critical: CriticalOption = "",
    fhir_map: MapOption = None,
    token_file: TokenOption = None,
    tls_certificate: CertificateOption = None,
    tls_key: KeyOption = None,
    client_ca: AuthorityOption = None,
    plain: PlainOption = False,
    host_name: NameOption = None,
    max_rows: RowsOption = 100_000,
    max_body_mb: BodyOption = 32,
    threads: ThreadsOption = 1,
    encoder: EncoderOption = "",
    log: LogOption = "text",
) -> None:
    """Answer requests by a finished model: JSON, FHIR RiskAssessment, CDS Hooks, conversations.

    Refuses a model that was altered, that nobody it knows has signed, or that is past its last day.
    """
    from wardround.client.serving.guard import Limits
    from wardround.client.serving.listening import tls_of
    from wardround.client.serving.serving import Asking, Reach, Trusting, serve
    from wardround.common.process.logs import setup_logging
    from wardround.common.process.signals import interrupt_once

    setup_logging(log)
    interrupt_once()
    tls = tls_of(tls_certificate, tls_key, client_ca)
    reach = Reach(listen, token_file, tls, plain, host_name or [])
    limits = Limits(body_bytes=max_body_mb << 20, rows=max_rows)
    own = (calibration, reference, (threshold, critical), fhir_map)
    trust, console = Trusting(kit, signer or [], unsigned), new_console()
    asking = Asking(model, reach, trust, hospital, *own, limits, threads, encoder)
    serve(asking, lambda line: console.print(Text(line)))
