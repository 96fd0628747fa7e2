"""Files with secrets: 0600 from the first byte on, in folders 0700, replaced whole and durably.

Also how a file of a kit is read, so that whatever is wrong with it is one line with its mend. What
root makes in another user's folder is handed over to that user, who couldn't read it otherwise.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

from wardround.common.durable.files import hand_over, write_atomically
from wardround.common.errors import ProvisionError

_OTHERS = 0o077
_MOST_BYTES = 16 * 2**20


def private_folder(path: Path) -> Path:
    """The folder, made 0700 if it isn't there. Raises ProvisionError if it can't be."""
    try:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            hand_over(path)
    except OSError as error:
        raise ProvisionError(f"{path}: can't be made ({why(error, path)})") from None
    return path


def denied(error: OSError) -> str:
    """A line for a file or folder that this user may not use, or that nobody can write."""
    path = Path(os.fsdecode(error.filename)) if error.filename is not None else None
    return f"{path}: {why(error, path)}" if path else error.strerror or "no permission"


def why(error: OSError, path: Path) -> str:
    """What the system says of a file or folder that can't be used here; where rights are missing,
    whose it is and what helps."""
    text = error.strerror or type(error).__name__
    if error.errno not in (errno.EACCES, errno.EPERM):
        return text
    found, own = path.absolute(), os.geteuid()
    while (owner := _owner(found)) is None and found != found.parent:  # not there, or hidden
        found = found.parent
    if owner is None:
        return text
    if owner == own:
        return f"{text}: {found} is this user's own; give it the rights (chmod u+rwX)"
    return (
        f"{text}: {found} belongs to {_user(owner)}, and this is {_user(own)}; run it as "
        f"{_user(owner)}, or give the folder to this user (chown -R)"
    )


def may_write(path: Path, folder: bool = False) -> bool:
    """Whether this user may write a file, or make files in a folder."""
    mode = os.W_OK | (os.X_OK if folder else os.R_OK)
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def not_writable(path: Path) -> OSError:
    """Why ``may_write`` says no: this user has no right to, or nobody has, as the file system can
    only be read."""
    only_read = os.statvfs(path).f_flag & os.ST_RDONLY
    number = errno.EROFS if only_read else errno.EACCES
    return OSError(number, os.strerror(number), str(path))


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _user(number: int) -> str:
    try:
        return f"user '{pwd.getpwuid(number).pw_name}'"
    except KeyError:  # a container's user may have no name
        return f"user {number}"


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, readable by its owner only, whole after any crash."""
    try:
        write_atomically(path, data, private=True)
    except OSError as error:
        raise _unwritable(path, error) from None


def write_public(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, which is no secret, unless it has these bytes already."""
    try:
        if not path.is_file() or path.read_bytes() != data:
            write_atomically(path, data)
    except OSError as error:
        raise _unwritable(path, error) from None


def read_public(path: Path, mend: str) -> bytes:
    """The bytes of a file. Raises ProvisionError with ``mend`` if it is missing or unreadable."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise ProvisionError(f"{path}: no such file; {mend}") from None
    except PermissionError as error:
        raise ProvisionError(f"{path}: can't be read ({why(error, path)})") from None
    except OSError as error:
        raise ProvisionError(f"{path}: can't be read ({error.strerror}); {mend}") from None
    if len(data) > _MOST_BYTES:
        raise ProvisionError(f"{path}: has over {_MOST_BYTES >> 20} MiB, which no such file has")
    return data


def read_private(path: Path, mend: str) -> bytes:
    """``read_public`` for a secret: also refuses one that others on this machine may read."""
    data = read_public(path, mend)
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & _OTHERS:
        raise ProvisionError(
            f"{path}: others on this machine may read this secret; run: chmod 600 {path}"
        )
    return data


def _unwritable(path: Path, error: OSError) -> ProvisionError:
    return ProvisionError(f"{path}: can't be written ({why(error, path)})")
