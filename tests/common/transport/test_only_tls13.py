"""R2: gRPC's settings are a process's own; only a server's or a hospital's process sets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wardround.common.trust.identity import Identity
from wardround.common.trust.pki import Authority, generate_key, key_to_pem

IMPORTS = "import wardround.client.app, wardround.server.app, wardround.simulations.run.simulate"
HOLD = "from wardround.common.transport.only_tls13 import hold_to_tls13; hold_to_tls13()"
SUITES = "import os; print(os.environ.get('GRPC_SSL_CIPHER_SUITES'))"
RSA = "ECDHE-RSA-AES256-GCM-SHA384"
PEER = """
import socket, ssl, sys
from concurrent.futures import ThreadPoolExecutor
import grpc
chain, key = (open(path, "rb").read() for path in sys.argv[1:3])
server = grpc.server(ThreadPoolExecutor(1))
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
server.start()
context = ssl.create_default_context(cafile=sys.argv[3])
context.maximum_version = ssl.TLSVersion.TLSv1_2
context.set_alpn_protocols(["h2"])
try:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        print(context.wrap_socket(plain, server_hostname="localhost").version())
except ssl.SSLError:
    print("refused")
server.stop(None)
"""
"""A gRPC server of the process's own, with an ECDSA certificate, and who calls it by TLS 1.2."""


def python(code: str, *arguments: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process with none of our settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=kept | environment
    )


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The server's chain and key, and the authority's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    authority, key = Authority.create(folder / "ca", "test"), generate_key()
    identity = Identity.generate().public
    paths = [folder / "server.pem", folder / "server.key", folder / "ca" / "ca.pem"]
    paths[0].write_bytes(authority.issue_server("localhost", key.public_key(), identity))
    paths[1].write_bytes(key_to_pem(key))
    return paths


@pytest.mark.parametrize(
    ("first", "outcome"),
    [(f"{IMPORTS}\n{SUITES}", ["None", "TLSv1.2"]), (f"{HOLD}\n{SUITES}", [RSA, "refused"])],
    ids=["others", "ours"],
)
def test_a_program_that_imports_wardround_keeps_its_own_grpc(ends, first, outcome) -> None:
    """What is set for gRPC, and whom it lets in. Each process imports torch: seconds."""
    done = python(f"{first}\n{PEER}", *ends)
    assert done.stdout.split() == outcome, done.stderr[-1000:]


def test_importing_sets_none_of_grpcs_settings() -> None:
    """Flower may set how loud gRPC is."""
    code = "import os, wardround.common; print([n for n in os.environ if n.startswith('GRPC_')])"
    assert python(code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (f"import grpc\n{HOLD}", "gRPC was imported before this process was held to TLS 1.3"),
        (f"import flwr.app\n{HOLD}", "gRPC was imported before this process was held to TLS 1.3"),
        (
            "from wardround.common.transport import tls\n"
            "tls.channel_credentials(tls.Files(b'', b'', b''))",
            "this process would also speak TLS 1.2; call hold_to_tls13()",
        ),
        (
            "from wardround.common.transport import tls\n"
            "tls.server_credentials(tls.Files(b'', b'', b''))",
            "this process would also speak TLS 1.2; call hold_to_tls13()",
        ),
    ],
    ids=["after grpc", "after flower", "a client's end", "a server's end"],
)
def test_a_process_that_can_not_be_held_to_it_says_so(code: str, says: str) -> None:
    done = python(code)
    assert done.returncode == 1 and says in done.stderr


@pytest.mark.parametrize(
    "command", [("server", "none.toml"), ("client", "nowhere"), ("doctor", "none.toml")]
)
def test_processes_hold_to_it_at_their_start(command: tuple[str, ...], tmp_path: Path) -> None:
    """Before anything of theirs imports gRPC: else it would be said. They end there: what comes
    next, torch among it, takes seconds to import."""
    code = (
        f"import os, sys; sys.argv = ['wardround', *{command!r}]\n"
        "from wardround.common.transport import only_tls13\n"
        "hold = only_tls13.hold_to_tls13\n"
        f"def and_end(): hold(); {SUITES}; sys.exit(7)\n"
        "only_tls13.hold_to_tls13 = and_end\n"
        "from wardround.common.process.main import main\n"
        f"os.chdir({str(tmp_path)!r}); main()"
    )
    done = python(code, GRPC_SSL_CIPHER_SUITES="ECDHE-ECDSA-AES128-GCM-SHA256")
    assert (done.returncode, done.stdout.split()) == (7, [RSA]), done.stderr
    assert "gRPC" not in done.stderr
