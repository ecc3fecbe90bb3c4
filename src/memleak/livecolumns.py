"""The live samples of a recording by column, each verified by its check word."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Optional

from . import layout
from .arena import Arena
from .records import LiveSample, LiveSums, Segment

_LOOKED_FOR = 16  # rows whose samples are looked for, one by one, before all are sorted out
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
        from . import _columns  # as in arena.py

        raw = arena.raw if isinstance(arena.raw, bytes) else bytes(arena.raw)
        whole = min(segment.capacity, max(0, len(raw) - segment.offset) // 8)
        arena.lose("places of the live set beyond the end of the file", segment.capacity - whole)
        if not whole:
            return  # wherever it says that it is
        *columns, torn, beyond = _columns.live(raw, segment.offset, segment.capacity)
        arena.lose("live samples beyond the end of the file", beyond)
        self.torn += torn
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

    def squares(self) -> dict[int, int]:
        """Return, for each row that has samples, the sum of the squares of what each stands for, in 1/1024 bytes."""
        sums: dict[int, int] = dict.fromkeys(self.refs, 0)
        for ref, size, weight in zip(self.refs, self.sizes, self.weights):
            value = size * weight
            sums[ref] += value * value
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


def _positions(refs: list[int], ref: int) -> Iterator[int]:
    at = -1
    try:
        while True:
            at = refs.index(ref, at + 1)
            yield at
    except ValueError:
        return
