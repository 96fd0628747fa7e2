"""``model.sig``: a folder signed in the form of OpenSSF's model signing (predicate version 1.0).

A Sigstore bundle around a DSSE envelope of an in-toto statement, which has the SHA-256 digest of
every file (https://github.com/sigstore/model-transparency), signed with a key of one's own. Anyone
checks it without this program:

    model_signing verify key FOLDER --signature FOLDER/model.sig --public_key key.pub

Keys are of an elliptic curve, as that form has no Ed25519: a party's own identity can't sign it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from wardround.common.durable.private import read_private
from wardround.common.errors import ProvisionError
from wardround.common.model_folder.listed import file_digest

SIGNATURE = "model.sig"
_PAYLOAD = "application/vnd.in-toto+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_IGNORED = (SIGNATURE, ".git", ".gitattributes", ".github", ".gitignore")
_HASHES: Mapping[int, hashes.HashAlgorithm] = {
    256: hashes.SHA256(),
    384: hashes.SHA384(),
    521: hashes.SHA512(),
}
_MEND = "make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A private key of P-256, P-384 or P-521 in PEM. Raises ProvisionError."""
    try:
        key = load_pem_private_key(read_private(path, _MEND), None)
    except (ValueError, TypeError):
        what = "not a private key in PEM, or one with a password"
        raise ProvisionError(f"{path}: {what}; {_MEND}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.key_size not in _HASHES:
        raise ProvisionError(f"{path}: not a key of P-256, P-384 or P-521; {_MEND}")
    return key


def sign_folder(folder: Path, key: ec.EllipticCurvePrivateKey, name: str) -> None:
    """Write ``model.sig`` over all files of a folder. ``name``: the model's. Raises OSError."""
    payload = json.dumps(_statement(folder, name), indent=2, ensure_ascii=False).encode()
    signature = key.sign(signed_bytes(payload), ec.ECDSA(_HASHES[key.curve.key_size]))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    bundle = {
        "mediaType": _BUNDLE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(public).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    (folder / SIGNATURE).write_text(json.dumps(bundle), encoding="utf-8")


def signed_bytes(payload: bytes) -> bytes:
    """What a signature of a DSSE envelope is over (its pre-authentication encoding)."""
    head = f"DSSEv1 {len(_PAYLOAD)} {_PAYLOAD} {len(payload)} "
    return head.encode() + payload


def _statement(folder: Path, name: str) -> dict[str, Any]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    digests = {x: file_digest(folder / x) for x in names if x.partition("/")[0] not in _IGNORED}
    whole = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values())))
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": whole.hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(_IGNORED),
            },
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest}
                for name, digest in digests.items()
            ],
        },
    }
