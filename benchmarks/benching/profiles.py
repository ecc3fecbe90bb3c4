"""What other tools wrote about the live heap, read as bytes by function: jemalloc's heap_v2 text, and pprof."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator
from typing import Union


def jemalloc_bytes(text: str, mapped: str, symbols: list[tuple[int, int, str]]) -> dict[str, float]:
    """Return live bytes by the innermost function of *symbols* in each backtrace of a heap_v2 profile.

    Scaled as jeprof does: a stack whose blocks have a mean size of S is seen with probability 1 - e^(-S / rate).

    Args:
        text: the profile.
        mapped: the path of the library whose functions are asked for.
        symbols: (offset in the file's address space, size, name), of that library.
    """
    rate = int(re.match(r"heap_v2/(\d+)", text)[1])  # type: ignore[index]
    start = load_address(text, mapped)
    found: dict[str, float] = {}
    for addresses, count, held in re.findall(r"^@ ([0-9a-fx ]+)\n\s+t\*: (\d+): (\d+) \[", text, flags=re.MULTILINE):
        if int(count) == 0:
            continue
        names = (name_at(int(word, 16) - start - 1, symbols) for word in addresses.split())
        name = next((name for name in names if name), "")
        found[name] = found.get(name, 0.0) + int(held) / (1 - math.exp(-int(held) / int(count) / rate))
    return found


def load_address(text: str, path: str) -> int:
    """Return where a file is mapped from its first byte on, of the mappings at a profile's end."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 6 and words[5] == path and int(words[2], 16) == 0:
            return int(words[0].partition("-")[0], 16)
    raise ValueError(f"{path} is not mapped")


def name_at(offset: int, symbols: list[tuple[int, int, str]]) -> str:
    """Return the function at an offset; "" if none of these."""
    index = bisect.bisect_right(symbols, (offset, 1 << 62, "")) - 1
    if index < 0:
        return ""
    start, size, name = symbols[index]
    return name if offset < start + size else ""


def nm_symbols(text: str) -> list[tuple[int, int, str]]:
    """Return (offset, size, name) of each function in what `nm -S` prints."""
    found = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) [tT] (\S+)$", text, flags=re.MULTILINE)
    return sorted((int(offset, 16), int(size, 16), name) for offset, size, name in found)


# -- pprof -------------------------------------------------------------------------------------------


def pprof_bytes(raw: bytes, kind: str = "heap-space") -> dict[str, float]:
    """Return the values of one type by the function of the innermost frame, of an uncompressed pprof profile."""
    strings: list[str] = []
    types, samples, locations, functions = [], [], {}, {}
    for number, value in fields(raw):
        if number == 6:
            strings.append(bytes(value).decode(errors="replace"))  # type: ignore[arg-type]
        elif number == 1:
            types.append(dict(fields(value)).get(1, 0))
        elif number == 2:
            samples.append(list(fields(value)))
        elif number == 4:
            line = dict(fields(value))
            locations[line[1]] = dict(fields(line[4])).get(1, 0) if 4 in line else 0
        elif number == 5:
            function = dict(fields(value))
            functions[function[1]] = function.get(2, 0)
    names = [strings[index] for index in types]
    if kind not in names:
        raise ValueError(f"no {kind} in a profile of {', '.join(names)}")
    which = names.index(kind)
    found: dict[str, float] = {}
    for sample in samples:
        places = [one for number, value in sample if number == 1 for one in numbers(value)]
        values = [one for number, value in sample if number == 2 for one in numbers(value)]
        if places and values[which]:
            name = strings[functions.get(locations.get(places[0], 0), 0)]
            found[name] = found.get(name, 0.0) + values[which]
    return found


def fields(raw: Union[bytes, int]) -> Iterator[tuple[int, Union[bytes, int]]]:
    """Yield number and value of each field of a protobuf message."""
    if isinstance(raw, int):
        raise ValueError("a number where a message should be")
    at = 0
    while at < len(raw):
        key, at = varint(raw, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(raw, at)
            yield key >> 3, value
        elif kind == 2:
            length, at = varint(raw, at)
            yield key >> 3, raw[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")


def numbers(value: Union[bytes, int]) -> Iterator[int]:
    """Yield the numbers of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        one, at = varint(value, at)
        yield one


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position behind it."""
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
