"""Who made a calibration: signed by a hospital, and held against the keys that a reader knows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from wardround.common.calibration.calibration import Calibration
from wardround.common.errors import CalibrationRefused
from wardround.common.trust.identity import Identity, digest, verify

_PURPOSE = "calibration of a model"
_AGAIN = "make it here: wardround client calibrate KIT"


def sign_calibration(found: Calibration, identity: Identity) -> Calibration:
    """The same, signed."""
    own = replace(found, signer=identity.public.hex(), signature="")
    return replace(own, signature=identity.sign(digest(_PURPOSE, own.body())).hex())


def check_calibration(
    found: Calibration, model: str, trusted: Collection[bytes] | None, who: str = ""
) -> None:
    """Raise CalibrationRefused unless it is of this model, unaltered, and one of these signed it.

    model : digest of the model's list of files (``ModelFolder.digest``); of an export that of the
        model that it was made of
    trusted : public keys; None: whoever signed it, or nobody
    who : the file, for the message
    """
    if found.model != model:
        raise CalibrationRefused("it is of another model than this one", who=who, mend=_AGAIN)
    if trusted is None and not found.signer:
        return
    if not found.signer:
        raise CalibrationRefused("nobody has signed it", who=who, mend=f"{_AGAIN}, or --unsigned")
    public, signature = bytes.fromhex(found.signer), bytes.fromhex(found.signature)
    body = replace(found, signature="").body()
    if not verify(public, signature, digest(_PURPOSE, body)):
        raise CalibrationRefused("it was altered since it was signed", who=who, mend=_AGAIN)
    if trusted is not None and public not in trusted:
        raise CalibrationRefused("a key that isn't known here signed it", who=who, mend=_AGAIN)
