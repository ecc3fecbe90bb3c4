"""What ./bench reads of other tools' profiles: jemalloc's text and ddtrace's pprof."""

from __future__ import annotations

import math

import pytest
from benching import profiles

# Mapped at 0x7f0000000000; native_site_0 is at 0x1100, 0x40 long.
SYMBOLS = [(0x1100, 0x40, "native_site_0"), (0x1140, 0x40, "native_site_1")]
HEAP = """heap_v2/524288
  t*: 5: 600000 [0: 0]
  t0: 5: 600000 [0: 0]
@ 0x7f1000000010 0x7f0000001120 0x7f0000001170 0x555500000000
  t*: 2: 200000 [0: 0]
  t0: 2: 200000 [0: 0]
@ 0x7f1000000010 0x7f0000001121 0x555500000000
  t*: 1: 100000 [0: 0]
  t0: 1: 100000 [0: 0]
@ 0x7f1000000010 0x7f0000001180
  t*: 2: 300000 [0: 0]
  t0: 2: 300000 [0: 0]
@ 0x7f1000000010 0x7f0000001130
  t*: 0: 0 [3: 99]
  t0: 0: 0 [3: 99]

MAPPED_LIBRARIES:
7f0000000000-7f0000001000 r--p 00000000 08:01 77                         /tmp/sites
7f0000001000-7f0000002000 r-xp 00001000 08:01 77                         /tmp/sites
"""


def test_jemalloc_is_scaled_by_the_chance_of_being_seen():
    """The innermost known function; a return address just behind a function is still its."""
    found = profiles.jemalloc_bytes(HEAP, "/tmp/sites", SYMBOLS)
    chance = 1 - math.exp(-100000 / 524288)
    assert found == {
        "native_site_0": pytest.approx(300000 / chance),
        "native_site_1": pytest.approx(300000 / (1 - math.exp(-150000 / 524288))),
    }


def test_a_profile_without_the_library_is_refused():
    with pytest.raises(ValueError, match="/tmp/others is not mapped"):
        profiles.jemalloc_bytes(HEAP, "/tmp/others", SYMBOLS)


def test_functions_of_nm():
    text = "0000000000001140 0000000000000040 T native_site_1\n0000000000001100 0000000000000040 t native_site_0\n"
    text += "                 U malloc\n0000000000004010 B held\n0000000000004018 0000000000000008 b newest\n"
    assert profiles.nm_symbols(text) == SYMBOLS


def field(number: int, value: int | bytes) -> bytes:
    """Encode a field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


def profile(*, packed: bool) -> bytes:
    """Two types of values; three samples, two of them of `leak`; that of `main` has nothing of the first type."""

    def several(number: int, values: list[int]) -> bytes:
        if packed:
            return field(number, b"".join(map(varint, values)))
        return b"".join(field(number, value) for value in values)

    strings = ["", "wall-time", "nanoseconds", "heap-space", "bytes", "leak", "main"]
    parts = [field(1, field(1, 1) + field(2, 2)), field(1, field(1, 3) + field(2, 4))]
    for places, values in (([1, 2], [7, 1000]), ([3], [0, 500]), ([1, 3], [1, 70000])):
        parts.append(field(2, several(1, places) + several(2, values)))
    for location, function in ((1, 11), (2, 12), (3, 12)):
        parts.append(field(4, field(1, location) + field(3, 0x1234) + field(4, field(1, function) + field(2, 42))))
    for function, name in ((11, 5), (12, 6)):
        parts.append(field(5, field(1, function) + field(2, name) + field(4, 1)))
    return b"".join(parts + [field(6, string.encode()) for string in strings])


@pytest.mark.parametrize("packed", [True, False])
def test_pprof_is_summed_by_the_innermost_function(packed):
    assert profiles.pprof_bytes(profile(packed=packed)) == {"leak": 71000, "main": 500}
    assert profiles.pprof_bytes(profile(packed=packed), "wall-time") == {"leak": 8}


def test_pprof_without_the_type_is_refused():
    with pytest.raises(ValueError, match="no alloc-space in a profile of wall-time, heap-space"):
        profiles.pprof_bytes(profile(packed=True), "alloc-space")
