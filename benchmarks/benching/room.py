"""What the tracer itself holds with two thousand stacks: the recording's room, and pages of the free check's bitmap."""

from __future__ import annotations

import re
import shutil
from typing import Any

from . import measuring
from .building import compiled
from .candidates import CANDIDATES
from .errors import directory_in_memory
from .places import Places
from .workloads import LIMIT_S

HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+\s*(.*)$")


def measure(places: Places, _: int, quick: bool) -> dict[str, Any]:
    """Run a program with 2,048 stacks at the defaults; read its recording and its mappings."""
    from memleak import recording

    directory, recordings = places.fresh(), directory_in_memory(places)
    program = compiled(
        "stacks.c", "-fno-optimize-sibling-calls", "-fno-if-conversion", "-fno-crossjumping", "-fno-tree-tail-merge"
    )
    environment = CANDIDATES["memleak-normal"].way(places).environment(directory)
    environment["MEMLEAK_DIR"] = str(recordings)
    sample = measuring.run_process([str(program), "50" if quick else "1000"], environment, LIMIT_S, directory)
    shutil.rmtree(directory, ignore_errors=True)
    if sample.failure:
        raise RuntimeError(sample.failure)
    (path,) = recordings.glob("*.mlrec")
    held = recording.load(path)
    mappings = resident(sample.output)
    row = {
        "stacks": len(held.rows),
        "live_samples": len(held.live),
        "room_backed_kib": held.header.room_backed >> 10,
        "recording_resident_kib": sum(kib for name, _, kib in mappings if name.endswith(".mlrec")),
        "bitmap_kib": bitmap(mappings),
        "library_kib": sum(kib for name, _, kib in mappings if "libmemleak" in name),
    }
    words = (
        f"{row['stacks']:,} stacks, {row['live_samples']:,} live samples: room {row['room_backed_kib']:,} KiB backed, "
        f"{row['recording_resident_kib']:,} KiB of it resident; bitmap {row['bitmap_kib']:,} KiB of 16,384"
    )
    return {"lines": [words], "row": row}


def resident(smaps: str) -> list[tuple[str, int, int]]:
    """Return name, size and resident KiB of each mapping in the text of smaps.

    One without a name has "(bss)" behind the name of the one that it follows without a gap.
    """
    found: list[tuple[str, int, int]] = []
    name, end, size = "", 0, 0
    for line in smaps.splitlines():
        head = HEAD.match(line)
        if head:
            start = int(head[1], 16)
            own = head[4].strip()
            name = own or (f"{name.partition(' (')[0]} (bss)" if start == end and name else "")
            end = int(head[2], 16)
            size = (end - start) >> 10
        elif line.startswith("Rss:"):
            found.append((name, size, int(line.split()[1])))
    return found


def bitmap(mappings: list[tuple[str, int, int]]) -> int:
    """Return the resident KiB of the core's zero pages, of which 16 MiB are the bitmap."""
    return sum(kib for name, _, kib in mappings if "libmemleak" in name and name.endswith("(bss)"))
