"""A core that notes the Python frames of each sample as the interpreter's headers have them, and what it noted.

Each sample is noted with the row it was counted in, so what a reader says of that row can be held against it, for
blocks that were freed too.
"""

from __future__ import annotations

import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

import compatenv
import nativebuild
from memleak.recording import Recording
from memleak.records import RecordedRow
from memleak.stacks import Tracer as Frames

SOURCE = Path(__file__).with_name("python_witness.c")
CALL = (
    "	uint32_t thread = catalog_thread(now_cs);",
    "	extern void witness_sample(uint32_t row);\n	witness_sample(sample.row);\n",
)

REPORT = struct.Struct("<4Q")
PAIR = struct.Struct("<Q2I")
TEXT = struct.Struct("<2I")
NAMES_AT = 1 << 29
CHARACTERS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}


class Seen(NamedTuple):
    """A frame as the witness saw it."""

    file: str
    name: str
    line: Optional[int]  # of a frame that has not begun: the first one of its code
    begun: bool


class Pair(NamedTuple):
    """Samples that were counted in one row with equal frames, innermost first."""

    row: int
    count: int
    frames: tuple[Seen, ...]


class Report(NamedTuple):
    """What the witness noted."""

    samples: int
    wrong_thread: int
    pairs: tuple[Pair, ...]


class Comparison(NamedTuple):
    """What came of holding a recording against the witness's report; counts of samples."""

    compared: int
    with_python: int
    frames: int
    not_begun: int  # frames
    cut: int
    rowless: int  # in the row of what found no room
    nameless: int  # frames whose code found no room
    right: Counter  # first word of the file of frames that are right -> samples
    lineless: Counter  # name of code whose line table is not kept whole -> samples
    wrong: Counter  # difference -> samples


def core(directory: Path, version: str) -> Path | None:
    """Build the core with the witness for one CPython; None where its headers are missing."""
    python = compatenv.interpreter(version)
    if python is None:
        return None
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    include = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    if not (Path(include) / "Python.h").exists():
        return None
    text = (nativebuild.NATIVE / "src/samples.c").read_text()
    assert text.count(CALL[0]) == 1, "samples_record() has changed: say here where its row is known"
    samples = directory / "samples.c"
    samples.write_text(text.replace(CALL[0], CALL[1] + CALL[0]))
    flags = [flag for flag in nativebuild.flags() if not flag.startswith("-W")]
    nativebuild.run(
        ["gcc", *flags, f"-I{nativebuild.NATIVE / 'src'}", "-c", "-o", str(directory / "samples.o"), str(samples)]
    )
    headers = [f"-I{include}", f"-I{include}/internal"]
    witness = ["gcc", "-w", "-g", "-O2", "-fPIC", "-fvisibility=hidden", "-D_GNU_SOURCE", *headers]
    nativebuild.run([*witness, "-c", "-o", str(directory / "witness.o"), str(SOURCE)])
    objects = [nativebuild.core_object(path) for path in nativebuild.core_sources() if path.stem != "samples"]
    # The witness calls functions of the interpreter, which other programs do not have.
    flags = [flag for flag in nativebuild.meson_list("core_link_args") if flag not in ("-Wl,-z,defs", "-Wl,-z,now")]
    library = directory / "libmemleak.so"
    parts = [directory / "samples.o", directory / "witness.o", *objects]
    nativebuild.run(["gcc", "-shared", *flags, "-o", str(library), *map(str, parts), "-ldl", "-pthread"])
    return library


def read(path: Path) -> Report:
    """Read what the witness wrote."""
    with path.open("rb") as file:
        used, names_used, samples, wrong_thread = REPORT.unpack(file.read(REPORT.size))
        pairs = file.read(used - REPORT.size)
        file.seek(NAMES_AT)
        names = file.read(names_used - NAMES_AT)
    return Report(samples, wrong_thread, tuple(_pairs(pairs, names)))


def _pairs(raw: bytes, names: bytes) -> Iterator[Pair]:
    known: dict[tuple[int, int], Seen] = {}
    at = 0
    while at < len(raw):
        count, row, number = PAIR.unpack_from(raw, at)
        words = struct.unpack_from("<" + "Ii" * number, raw, at + PAIR.size)
        frames = []
        for key in zip(words[::2], words[1::2]):
            if key not in known:
                file, behind = _text(names, key[0])
                known[key] = Seen(file, _text(names, behind)[0], *_line(key[1]))
            frames.append(known[key])
        yield Pair(row, count, tuple(frames))
        at += PAIR.size + 8 * number


def _line(word: int) -> tuple[Optional[int], bool]:
    return (None, True) if word == -(1 << 31) else (abs(word), word >= 0)


def _text(raw: bytes, at: int) -> tuple[str, int]:
    length, unit = TEXT.unpack_from(raw, at)
    at += TEXT.size
    ends = at + length * unit
    return raw[at:ends].decode(CHARACTERS[unit]), at + (length * unit + 7) // 8 * 8


def compare(report: Report, found: Recording) -> Comparison:
    """Hold each sample's row, as it is shown to a user, against the witness."""
    rows = {row.ref: row for row in found.rows}
    most = found.header.max_frames
    shown = Frames(None)
    totals: Counter = Counter()
    right: Counter = Counter()
    lineless: Counter = Counter()
    wrong: Counter = Counter()
    for pair in report.pairs:
        row = rows.get(pair.row)
        if row is None or row.overflow:
            totals["rowless" if row is not None or pair.row == found.header.overflow_row else "gone"] += pair.count
            continue
        totals["compared"] += pair.count
        totals["with_python"] += pair.count if pair.frames else 0
        totals["frames"] += pair.count * len(pair.frames)
        totals["not_begun"] += pair.count * sum(not frame.begun for frame in pair.frames)
        for difference in _differences(pair, row, shown, most, totals, right, lineless):
            wrong[difference] += pair.count
    if totals["gone"]:
        wrong["rows that are not in the recording"] += totals["gone"]
    return Comparison(*(totals[name] for name in Comparison._fields[:-3]), right, lineless, wrong)


def _differences(
    pair: Pair, row: RecordedRow, shown: Frames, most: int, totals: Counter, right: Counter, lineless: Counter
) -> Iterator[str]:
    ours, true = shown.frames(row, [], "python"), pair.frames
    if row.python_truncated:
        totals["cut"] += pair.count
        if len(ours) > most or len(true) <= len(ours):
            yield f"marked as cut: {len(ours)} frames of {len(true)}"
    elif len(ours) != len(true):
        yield f"{len(ours)} frames of {len(true)}: {' < '.join(map(str, ours))} | {true}"
        return
    for mine, seen in zip(ours, true):
        if mine[1:4] == (seen.name, seen.file, seen.line):
            right[seen.file.partition(" ")[0]] += pair.count
            continue
        if mine.function is None:
            totals["nameless"] += pair.count
        elif mine.line is None and (mine.file, mine.function) == seen[:2] and seen.begun:
            lineless[mine.function] += pair.count
        else:
            yield f"{mine}, not {seen}"
