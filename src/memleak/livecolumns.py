"""The live samples of a recording by column, each verified by its check word."""

from collections.abc import Iterator, Sequence
from itertools import compress, repeat
from typing import Optional, Union

from . import layout
from .arena import Arena, take
from .records import LiveSample, LiveSums, Segment

_KEYS_PER_STEP = 512
_ZEROS = bytes(8 * _KEYS_PER_STEP)
_LOOKED_FOR = 16  # rows whose samples are looked for, one by one, before all are sorted out
_MASK = 0xFFFFFFFF
_LAYER = 15 << layout.LIVE_KEY_LAYER_SHIFT
_NO_SAMPLE = layout.LAYER_NO_SAMPLE << layout.LIVE_KEY_LAYER_SHIFT
_make_sums = LiveSums._make


class LiveColumns:
    """The live samples, in the order of the live set.

    Attributes:
        refs: of the row of each.
        sizes: in bytes.
        weights: in 1/1024.
        borns: in cs.
        threads: number of the thread of each.
        layers: what the address stands in.
        of_pools: of those that pools gave out: row, size, weight, number of the region or 0.
        torn: entries left out because they were being changed while copied, or are damaged.
    """

    def __init__(self) -> None:
        """Begin without samples."""
        self.refs: list[int] = []
        self.sizes: list[int] = []
        self.weights: list[int] = []
        self.borns: list[int] = []
        self.threads: list[int] = []
        self.layers: list[int] = []
        self.of_pools: list[tuple[int, int, int, int]] = []
        self.torn = 0
        self._of_row: Optional[dict[int, list[int]]] = None
        self._looked_for = 0

    def __len__(self) -> int:
        return len(self.refs)

    def read(self, arena: Arena, segment: Segment) -> None:
        """Add the samples of a segment."""
        raw, entry_bytes = arena.raw, layout.LIVE.bytes
        entries = segment.offset + 8 * segment.capacity
        whole = min(segment.capacity, max(0, len(raw) - segment.offset) // 8)
        arena.lose("places of the live set beyond the end of the file", segment.capacity - whole)
        readable = max(0, len(raw) - entries) // entry_bytes
        places, keys = _live_keys(raw, segment.offset, whole)
        if places and places[-1] >= readable:
            inside = [place < readable for place in places]
            arena.lose("live samples beyond the end of the file", inside.count(False))
            places, keys = list(compress(places, inside)), list(compress(keys, inside))
        # Two of each entry's words are pairs of halves, which the check word takes the other way round.
        if keys and max([key & _LAYER for key in keys]) >= _NO_SAMPLE:
            samples = [key & _LAYER < _NO_SAMPLE for key in keys]
            places, keys = list(compress(places, samples)), list(compress(keys, samples))
        entry = memoryview(raw)[entries : entries + readable * entry_bytes]
        words, halves = entry.cast("Q"), entry.cast("I")
        per_entry = entry_bytes // 8
        sizes, row_weights, born_threads = [take(places, words[at::per_entry]) for at in range(3)]
        checks = take(places, halves[6 :: 2 * per_entry])
        torn = _torn(keys, sizes, row_weights, born_threads, checks)
        columns: list[list[int]] = [
            [word & _MASK for word in row_weights],
            list(sizes),
            [word >> 32 for word in row_weights],
            [word & _MASK for word in born_threads],
            [word >> 32 for word in born_threads],
            [key >> layout.LIVE_KEY_LAYER_SHIFT & 15 for key in keys],
        ]
        if torn:
            whole_ones = [place not in torn for place in range(len(keys))]
            columns = [list(compress(column, whole_ones)) for column in columns]
            self.torn += len(torn)
        if layout.LAYER_POOL in columns[5]:
            self._read_pools(columns)
        for mine, found in zip((self.refs, self.sizes, self.weights, self.borns, self.threads, self.layers), columns):
            mine += found

    def _read_pools(self, columns: list[list[int]]) -> None:
        """Take apart what stands beside the thread of a sample of a pool."""
        refs, sizes, weights, _, threads, layers = columns
        for at, layer in enumerate(layers):
            if layer == layout.LAYER_POOL:
                self.of_pools.append((refs[at], sizes[at], weights[at], threads[at] >> layout.LIVE_REGION_SHIFT))
                threads[at] &= layout.LIVE_THREAD_MASK

    def samples(self) -> tuple[LiveSample, ...]:
        """Return the samples as `Recording.live` has them."""
        return tuple(zip(self.refs, self.sizes, self.weights, self.borns, self.threads, self.layers))

    def at(self, ref: int) -> list[int]:
        """Return the numbers of the samples of a row."""
        if self._of_row is None:
            self._looked_for += 1
            if self._looked_for <= _LOOKED_FOR:
                return list(_positions(self.refs, ref))
            of_row: dict[int, list[int]] = {}
            for number, found in enumerate(self.refs):
                if found in of_row:
                    of_row[found].append(number)
                else:
                    of_row[found] = [number]
            self._of_row = of_row
        return self._of_row.get(ref, [])

    def add_up(self, column: Optional[Sequence[int]] = None, weighted: bool = False) -> dict[int, int]:
        """Return, for each row that has samples, the sum of a column, of ones without; *weighted* by 1/1024."""
        values = column or repeat(1)
        sums: dict[int, int] = dict.fromkeys(self.refs, 0)
        if weighted:
            for ref, value, weight in zip(self.refs, values, self.weights):
                sums[ref] += value * weight
        else:
            for ref, value in zip(self.refs, values):
                sums[ref] += value
        return sums

    def sums(self, ref: int) -> LiveSums:
        """Return the sums over the samples of a row."""
        numbers = self.at(ref)
        if not numbers:
            return NO_SUMS
        total = count = value = vc = vb = qc = qb = most = 0
        heaviest = (1024, 0)
        for number in numbers:
            size, weight = self.sizes[number], self.weights[number]
            wx = weight * size
            over = weight - 1024
            total += size
            count += weight
            value += wx
            vc += weight * over
            adds = wx * over * size
            vb += adds
            if adds > most:
                heaviest, most = (weight, size), adds
            qc += weight * weight
            qb += wx * wx
        k, m = 1 / 1024, 1 / (1024 * 1024)
        heavy = heaviest[0] * k, heaviest[1]
        return _make_sums((len(numbers), total, count * k, value * k, vc * m, vb * m, qc * m, qb * m, heavy))


NO_SUMS = LiveSums()


def _live_keys(raw: Union[bytes, memoryview], offset: int, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return places and keys of what is live, of *count* keys at *offset*, a multiple of 8."""
    words = memoryview(raw)[offset : offset + 8 * count].cast("Q")
    places: list[int] = []
    for first in range(0, count, _KEYS_PER_STEP):
        last = min(first + _KEYS_PER_STEP, count)
        if raw[offset + 8 * first : offset + 8 * last] != _ZEROS[: 8 * (last - first)]:
            places += compress(range(first, last), words[first:last])
    keys = take(places, words)
    if places and min(keys) < layout.LIVE_KEY_LIVE:
        live = [key >= layout.LIVE_KEY_LIVE for key in keys]
        return list(compress(places, live)), list(compress(keys, live))
    return places, keys


def _torn(
    keys: Sequence[int],
    sizes: Sequence[int],
    row_weights: Sequence[int],
    born_threads: Sequence[int],
    checks: Sequence[int],
) -> set[int]:
    """Return the positions of entries that are not what their check words say, or weigh less than 1."""
    mask, high = _MASK, _MASK << 32
    check_1, check_2, check_3 = layout.CHECK_1, layout.CHECK_2, layout.CHECK_3
    # layout.live_check(), in place: this is the innermost loop of reading.
    totals = [
        key
        + size * check_1
        + (row_weight << 32 & high | row_weight >> 32) * check_2
        + (born_thread << 32 & high | born_thread >> 32) * check_3
        for key, size, row_weight, born_thread in zip(keys, sizes, row_weights, born_threads)
    ]
    found = [(total >> 32 ^ total) & mask for total in totals]
    torn = set()
    if found != list(checks):
        torn = {place for place, (mine, its) in enumerate(zip(found, checks)) if mine != its}
    if row_weights and min(row_weights) >> 32 < 1024:
        torn |= {place for place, word in enumerate(row_weights) if word >> 32 < 1024}
    return torn


def _positions(refs: list[int], ref: int) -> Iterator[int]:
    at = -1
    try:
        while True:
            at = refs.index(ref, at + 1)
            yield at
    except ValueError:
        return
