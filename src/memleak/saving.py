"""Write copies of recordings: whole or not at all, readable by the owner only."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Callable

from .errors import TargetError
from .recording import Recording
from .replaceable import is_replaceable


def save_all(recordings: Sequence[Recording], path: Path, *, force: bool) -> list[Path]:
    """Write one recording to the file *path*, or several into the directory *path*.

    Returns:
        The files written.

    Raises:
        TargetError: a file exists and *force* is not set, is not a regular one, or cannot be written.
    """
    if len(recordings) == 1 and not path.is_dir():
        return [_save(recordings[0], path, force=force)]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{path}: cannot make the directory: {error.strerror}") from error
    return [_save(found, path / _file_name(found), force=force) for found in recordings]


def _file_name(found: Recording) -> str:
    header = found.header
    return f"{header.pid}-{header.start_ticks}-{header.recording_id:016x}.mlrec"


def _save(found: Recording, path: Path, *, force: bool) -> Path:
    def write(file: BinaryIO) -> None:
        file.write(found.raw)

    write_whole(path, write, force=force)
    return path


def write_whole(path: Path, write: Callable[[BinaryIO], None], *, force: bool) -> None:
    """Have *write* fill a file that gets the name *path* when it is complete.

    Raises:
        TargetError: as for `save_all`.
    """
    exists = f"{path} exists already: choose another name, or force it"
    if not force and os.path.lexists(path):
        raise TargetError(exists)
    if not is_replaceable(path):
        raise TargetError(f"{path} is not a regular file, and is not replaced: choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                write(file)
            if force:
                os.replace(temporary, path)
            else:
                _rename_new(temporary, path)
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)
    except FileExistsError as error:
        raise TargetError(exists) from error
    except OSError as error:
        raise TargetError(f"{path}: cannot be written: {error.strerror or error}") from error


def _rename_new(temporary: Path, path: Path) -> None:
    """Give *temporary* its name unless something has that name: rename() would replace it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError from None
        os.replace(temporary, path)
