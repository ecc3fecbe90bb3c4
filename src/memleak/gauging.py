"""Set gauges of a running process from outside, by writing the gauge words of its recording.

A gauge that is there already is written where it stands. One that is not gets a place in the segment that the process
leaves to readers: they take turns by a lock on the file, and write the name before the word that says that it is there,
so one that is killed half-way leaves nothing that anybody takes for a gauge. The history is written as the process
would write it.
"""

import mmap
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from . import control, decode, layout, locate, recording
from .errors import TargetError
from .layout import GAUGE
from .names import GAUGE_RULE, is_gauge_name
from .records import Gauge, Header, Segment, gauge_word

VALUE_MOST = (1 << 63) - 1


def parse(word: str) -> tuple[str, int]:
    """Return the name and the value that NAME=VALUE means.

    Raises:
        ValueError: it is no such word, the name is none, or the value no whole number of 64 bits.
    """
    name, equals, text = word.partition("=")
    if not equals:
        raise ValueError(f"{word!r}: expected NAME=VALUE, for example open_tables=1200")
    return checked_name(name), parse_value(text)


def checked_name(name: str) -> str:
    """Return *name* if a gauge can be called so.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(name, str) or not is_gauge_name(name):
        raise ValueError(f"{name!r} is no name for a gauge: it takes {GAUGE_RULE}")
    return name


def parse_value(text: str) -> int:
    """Return a gauge's value from its text: a whole number, also as 1e6 or 1_000_000.

    Raises:
        ValueError: it is none, or needs more than 64 bits.
    """
    try:
        value = int(text)
    except ValueError:
        try:
            number = float(text)
            value = int(number)
        except (ValueError, OverflowError):
            raise ValueError(f"{text!r} is no whole number") from None
        if number != value:
            raise ValueError(f"{text!r} is no whole number: a gauge is a count") from None
    return checked_value(value)


def checked_value(value: int) -> int:
    """Return *value* if a gauge can have it.

    Raises:
        ValueError: it needs more than 64 bits.
    """
    if not -VALUE_MOST - 1 <= value <= VALUE_MOST:
        raise ValueError(f"{value} is beyond what a gauge holds: 64 bits")
    return value


def read_gauges(target: locate.Target) -> tuple[Path, Header, tuple[Gauge, ...]]:
    """Return the path, header and gauges of one recording.

    Raises:
        TargetError: no such process or file, or several recordings.
        RecordingError: not a recording.
    """
    path = _only(target)
    found = recording.load(path)
    return path, found.header, found.gauges


def set_gauges(target: locate.Target, values: Mapping[str, int]) -> tuple[Path, Header]:
    """Set gauges of a running process; those it does not have are made. All of them, or none.

    Args:
        target: a pid, or the recording of a running process.
        values: by name.

    Raises:
        ValueError: a bad name or value, or nothing to set.
        TargetError: no such process, not permitted, its recording is closed or a copy, its core is an early one without
            gauges, or there is no place for so many.
        RecordingError: not a recording, or damaged.
    """
    if not values:
        raise ValueError("nothing to set: give NAME=VALUE")
    for name, value in values.items():
        checked_name(name)
        checked_value(value)
    path = _only(target)
    try:
        fd = recording.open_regular(path, os.O_RDWR)
    except OSError as error:
        raise TargetError(f"{path}: not permitted to write its gauges: {error.strerror}") from error
    try:
        header = recording.parse_header(os.pread(fd, layout.HEADER_BYTES, 0), str(path))
        control.refuse_closed(header, path, "its gauges cannot be set")
        control.lock(fd, path, "gauges")
        size = os.fstat(fd).st_size
        # As much as has memory behind it: what lies beyond must not be touched.
        with mmap.mmap(fd, min(size, max(header.room_backed, layout.ROOM_OFFSET))) as page:
            segments = _segments(page, path, header)
            places = _places(page, segments, path, header)
            _claim(page, segments, places, list(values), path)
            now_cs = _now_cs(header)
            with memoryview(page) as view, view.cast("Q") as words, view.cast("I") as halves:
                for name, value in values.items():
                    _write(words, halves, places[name], value, now_cs, header)
    finally:
        os.close(fd)
    return path, header


def _only(target: locate.Target) -> Path:
    paths = locate.find(target)
    if len(paths) != 1:
        raise TargetError(f"{target}: {len(paths)} recordings: gauges belong to one process, name one")
    return paths[0]


def _segments(page: mmap.mmap, path: Path, header: Header) -> list[Segment]:
    """Return the segments of gauges that lie in what has memory behind it, the readers' first."""
    directory = page[layout.DIRECTORY_OFFSET : layout.ROOM_OFFSET]
    found = [one for one in decode.unpack_directory(directory) if one.kind == layout.KIND_GAUGES]
    found.sort(key=lambda segment: segment.order)
    if not found:
        raise TargetError(f"{path}: the core in process {header.pid} is an early one without gauges")
    for one in found:
        ends = one.offset + one.capacity * max(one.record_bytes, GAUGE.bytes)
        if one.offset < layout.ROOM_OFFSET or one.offset % 8 or one.record_bytes % 8 or ends > len(page):
            raise TargetError(f"{path}: damaged: its segment of gauges does not lie in the file; nothing was changed")
    return found


def _places(page: mmap.mmap, segments: list[Segment], path: Path, header: Header) -> dict[str, int]:
    """Return where each gauge stands; of two with one name the program's own."""
    if (
        header.history_levels * header.history_slots * 8 > GAUGE.bytes - GAUGE.offsets["slot"]
        or not header.history_unit_cs
    ):
        raise TargetError(f"{path}: damaged: its history has another form; nothing was changed")
    found: dict[str, int] = {}
    for segment in segments:
        for index in range(segment.capacity):
            at = segment.offset + index * max(segment.record_bytes, GAUGE.bytes)
            state, length, raw = struct.unpack_from(f"<II{layout.GAUGE_NAME_BYTES}s", page, at)
            name = raw[:length].decode("ascii", "replace")
            if state == layout.GAUGE_NAMED and length <= layout.GAUGE_NAME_BYTES and is_gauge_name(name):
                found[name] = at
    return found


def _claim(page: mmap.mmap, segments: list[Segment], places: dict[str, int], names: list[str], path: Path) -> None:
    """Give a place to each name that has none. Raises before anything is written when there are not enough."""
    missing = [name for name in names if name not in places]
    free = []
    for segment in segments:
        if segment.order == 0:
            stride = max(segment.record_bytes, GAUGE.bytes)
            starts = [segment.offset + index * stride for index in range(segment.capacity)]
            free += [at for at in starts if struct.unpack_from("<I", page, at)[0] == layout.GAUGE_EMPTY]
    if len(missing) > len(free):
        raise TargetError(
            f"{path}: no place for {', '.join(missing[len(free) :])}: {layout.GAUGES_EACH} gauges can be made from"
            " outside; nothing was changed"
        )
    for name, at in zip(missing, free):
        page[at + 4 : at + GAUGE.bytes] = bytes(GAUGE.bytes - 4)  # what was left by one who was killed here
        raw = name.encode("ascii")
        struct.pack_into(f"<I{len(raw)}s", page, at + 4, len(raw), raw)
        with memoryview(page) as view, view.cast("I") as halves:
            halves[at // 4] = layout.GAUGE_NAMED  # last, an aligned store; pairs with the core's loads
        places[name] = at


def _now_cs(header: Header) -> int:
    """Return the moment on the clock of the recording; in another time namespace its own last moment is the nearest."""
    now_cs = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - header.start_monotonic_ns) // 10**7 + 1
    by_calendar = (time.time_ns() - header.start_realtime_ns) // 10**7 + 1
    if now_cs + 100 < header.end_cs:
        now_cs = max(by_calendar, header.end_cs)
    return max(1, min(now_cs, 0xFFFFFFFF))


def _write(words: memoryview, halves: memoryview, at: int, value: int, now_cs: int, header: Header) -> None:
    """Do what `note()` of native/src/gauges.c does. Each store is one aligned word."""

    def half(name: str) -> int:
        return (at + GAUGE.offsets[name]) // 4

    value_at, slots_at = (at + GAUGE.offsets["value"]) // 8, (at + GAUGE.offsets["slot"]) // 8
    before = _signed(words[value_at])
    was_set = halves[half("first_cs")] != 0
    words[value_at] = value & 0xFFFFFFFFFFFFFFFF
    halves[half("set_cs")] = now_cs
    if was_set and before == value:
        return
    halves[half("changed_cs")] = now_cs
    tick, last = 1 + now_cs // header.history_unit_cs, halves[half("tick")]
    if tick > last:
        for level in range(header.history_levels if last else 0):
            _write_slot(words, slots_at, level, last, gauge_word(before), header)
        halves[half("tick")] = tick
    if tick >= last:
        _write_slot(words, slots_at, 0, tick, gauge_word(value), header)
    if not was_set:
        halves[half("first_cs")] = now_cs  # from here on there is a value


def _write_slot(words: memoryview, slots_at: int, level: int, tick: int, value: int, header: Header) -> None:
    period = tick >> level * header.history_level_shift
    slot = slots_at + level * header.history_slots + period % header.history_slots
    words[slot] = (1 + period % layout.HISTORY_TAG_MASK) << layout.HISTORY_VALUE_BITS | value


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
