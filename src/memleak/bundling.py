"""Write a bundle: recordings with the names that their stacks need; see `bundle` for reading it."""

import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Optional

from .bundle import (
    FORMAT,
    MANIFEST,
    MAX_MEMBERS,
    MAX_RECORDINGS_BYTES,
    MAX_SYMBOLS_BYTES,
    BundledModule,
    BundledRecording,
)
from .errors import TargetError
from .recording import Recording
from .saving import write_whole
from .symbolize.answers import Answer, AnswerFrame, TableError, build
from .symbolize.debugfiles import recorded_path

_Place = tuple[str, str, int, bool]  # path, build-id, address, exact


def write(
    recordings: Sequence[Recording],
    running: Sequence[bool],
    symbolizer: Any,
    path: Path,
    *,
    made_by: str,
    force: bool = False,
) -> list[BundledModule]:
    """Write *recordings* and what *symbolizer* knows of their stacks to *path*.

    Args:
        recordings: what to bundle.
        running: for each recording, whether its process is.
        symbolizer: names places; see `memleak.symbolize.Symbolizer`.
        path: where to.
        made_by: the program that writes it.
        force: replace a file that exists.

    Returns:
        What was found of each object in their stacks. One whose file is not of the recorded build has no names
        and a `problem`; the rest is bundled.

    Raises:
        TargetError: the file exists and *force* is not set, cannot be written, or would be too large to be read.
    """
    tables: list[bytes] = []
    modules = []
    for (module_path, build_id), answers in _answers(recordings, symbolizer).items():
        named = {address: answer for address, answer in answers.items() if any(_is_named(frame) for frame in answer)}
        problem = symbolizer.problems().get(recorded_path(module_path))
        member = None
        if named:
            member = f"symbols/{len(tables)}"
            try:
                tables.append(build(named).pack())
            except TableError as error:
                raise TargetError(f"{path}: cannot be written: {module_path}: {error}") from error
        has_lines = any(frame.line for answer in named.values() for frame in answer)
        modules.append(BundledModule(module_path, build_id, has_lines, len(named), member, problem))
    members = [BundledRecording(f"recordings/{number}.mlrec", lives) for number, lives in enumerate(running)]
    _check(path, recordings, tables, modules)
    manifest = {
        "format": FORMAT,
        "made_by": made_by,
        "recordings": [member._asdict() for member in members],
        "modules": [module._asdict() for module in modules],
    }

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
            archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
            for member, found in zip(members, recordings):
                archive.writestr(member.member, found.raw)
            for number, table in enumerate(tables):
                archive.writestr(f"symbols/{number}", table)

    try:
        write_whole(path, fill, force=force)
    except zipfile.LargeZipFile as error:
        raise TargetError(f"{path}: cannot be written: {error}") from error
    return modules


def _answers(recordings: Iterable[Recording], symbolizer: Any) -> dict[tuple[str, str], dict[int, Answer]]:
    """Return what is known of each place in the stacks, by object."""
    places: dict[_Place, None] = {}
    for found in recordings:
        for row in found.rows:
            for frame in row.stack:
                module = found.module(frame.module_id)
                if module.path:
                    places[module.path, module.build_id, frame.vaddr, frame.exact] = None
    by_module: dict[tuple[str, str], dict[int, Answer]] = {}
    for (path, build_id, vaddr, exact), frames in zip(places, symbolizer.resolve(list(places))):
        by_module.setdefault((path, build_id), {})[max(0, vaddr - (not exact))] = tuple(
            AnswerFrame(frame.function, frame.file, frame.line, frame.inlined, frame.discriminator) for frame in frames
        )
    return by_module


def _is_named(frame: AnswerFrame) -> bool:
    return frame.function is not None or frame.file is not None


def _check(path: Path, recordings: Sequence[Recording], tables: Sequence[bytes], modules: Sequence[object]) -> None:
    """Refuse to write what a reader would refuse."""
    why: Optional[str] = None
    if sum(len(found.raw) for found in recordings) > MAX_RECORDINGS_BYTES:
        why = f"its recordings have more than {MAX_RECORDINGS_BYTES >> 20} MiB together"
    elif sum(map(len, tables)) > MAX_SYMBOLS_BYTES:
        why = f"its names have more than {MAX_SYMBOLS_BYTES >> 20} MiB together"
    elif len(recordings) + len(modules) > MAX_MEMBERS:
        why = f"{len(recordings)} recordings and {len(modules)} objects are more than a bundle may have"
    if why is not None:
        raise TargetError(f"{path}: cannot be written: {why}: bundle fewer of them")
