"""The live samples of a recording by column, each verified by its check word."""

from array import array
from collections.abc import Sequence
from itertools import repeat
from typing import Optional

from . import layout
from .arena import Arena
from .once import once
from .records import LiveSample, LiveSums, Segment

_LOOKED_FOR = 64  # rows whose samples are looked for, one by one, before all are sorted out
_make_sums = LiveSums._make
_REFS, _SIZES, _WEIGHTS, _BORNS, _THREADS, _LAYERS = range(6)
_CODES = "IQIIIB"  # of the columns


class LiveColumns:
    """The live samples, in the order of the live set. Numbers of Python's are made where somebody looks.

    Attributes:
        refs: of the row of each.
        sizes: in bytes.
        weights: in 1/1024.
        borns: in cs.
        of_pools: of those that pools gave out: row, size, weight, number of the region or 0.
        torn: entries left out because they were being changed while copied, or are damaged.
    """

    def __init__(self) -> None:
        """Begin without samples."""
        self._parts: list[list[bytes]] = [[] for _ in _CODES]
        self._number = 0
        self.of_pools: list[tuple[int, int, int, int]] = []
        self.torn = 0
        self._of_row: Optional[dict[int, list[int]]] = None
        self._looked_for = 0

    def __len__(self) -> int:
        return self._number

    def read(self, arena: Arena, segment: Segment) -> None:
        """Add the samples of a segment; none has been looked at before."""
        from . import _columns  # as in arena.py

        raw = arena.copy
        whole = min(segment.capacity, max(0, len(raw) - segment.offset) // 8)
        arena.lose("places of the live set beyond the end of the file", segment.capacity - whole)
        if not whole:
            return  # wherever it says that it is
        *columns, torn, beyond = _columns.live(raw, segment.offset, segment.capacity)
        arena.lose("live samples beyond the end of the file", beyond)
        self.torn += torn
        self._number += len(columns[_LAYERS])
        if layout.LAYER_POOL in columns[_LAYERS]:
            columns[_THREADS] = self._read_pools(columns)
        for parts, column in zip(self._parts, columns):
            parts.append(column)

    def _read_pools(self, columns: list[bytes]) -> bytes:
        """Take apart what stands beside the thread of a sample of a pool, and return the threads alone."""
        refs, sizes, weights, _, threads, layers = map(_numbers, _CODES, columns)
        alone = array("I", threads)
        for at, layer in enumerate(layers):
            if layer == layout.LAYER_POOL:
                self.of_pools.append((refs[at], sizes[at], weights[at], threads[at] >> layout.LIVE_REGION_SHIFT))
                alone[at] &= layout.LIVE_THREAD_MASK
        return alone.tobytes()

    @once
    def columns(self) -> list[bytes]:
        """The numbers of all samples, one column after the other, as the module `_columns` takes them."""
        return [parts[0] if len(parts) == 1 else b"".join(parts) for parts in self._parts]

    @once
    def refs(self) -> "memoryview[int]":
        """Of the row of each."""
        return _numbers(_CODES[_REFS], self.columns[_REFS])

    @once
    def sizes(self) -> "memoryview[int]":
        """In bytes."""
        return _numbers(_CODES[_SIZES], self.columns[_SIZES])

    @once
    def weights(self) -> "memoryview[int]":
        """In 1/1024."""
        return _numbers(_CODES[_WEIGHTS], self.columns[_WEIGHTS])

    @once
    def borns(self) -> "memoryview[int]":
        """In cs."""
        return _numbers(_CODES[_BORNS], self.columns[_BORNS])

    def samples(self) -> tuple[LiveSample, ...]:
        """Return the samples as `Recording.live` has them."""
        refs, sizes, weights, borns, threads, layers = [
            _numbers(code, column).tolist() for code, column in zip(_CODES, self.columns)
        ]
        return tuple(zip(refs, sizes, weights, borns, threads, layers))

    def at(self, ref: int) -> list[int]:
        """Return the numbers of the samples of a row."""
        if self._of_row is None:
            self._looked_for += 1
            if self._looked_for <= _LOOKED_FOR:
                from . import _columns

                return _columns.at(self.columns[_REFS], ref)
            of_row: dict[int, list[int]] = {}
            for number, found in enumerate(self.refs.tolist()):
                if found in of_row:
                    of_row[found].append(number)
                else:
                    of_row[found] = [number]
            self._of_row = of_row
        return self._of_row.get(ref, [])

    def owners(self, refs: Sequence[int], limit: int) -> Optional[bytes]:
        """Return of each sample the index of its row in *refs*, for `add_up`; None when it has none there, or rows overlap.

        *limit* is the first reference behind the recording.
        """
        from . import _columns

        return _columns.owners(refs, self.columns[_REFS], limit)

    def add_up(self, owners: bytes, count: int, *, sized: bool, weighted: bool) -> list[int]:
        """Return for each of *count* rows the sum of the sizes of its samples, of ones without; *weighted* by 1/1024."""
        from . import _columns

        sizes, weights = self.columns[_SIZES], self.columns[_WEIGHTS]
        return _columns.sums(owners, count, sizes if sized else None, weights if weighted else None)

    def add_up_by_row(self, *, sized: bool, weighted: bool) -> dict[int, int]:
        """Return the same for each row that has samples, wherever it is."""
        sums: dict[int, int] = dict.fromkeys(self.refs, 0)
        values = self.sizes if sized else repeat(1)
        for ref, value, weight in zip(self.refs, values, self.weights if weighted else repeat(1)):
            sums[ref] += value * weight
        return sums

    def squares(self, owners: bytes, count: int) -> list[int]:
        """Return for each of *count* rows the sum of the squares of what its samples stand for, in 1/1024 bytes."""
        from . import _columns

        return _columns.squares(owners, count, self.columns[_SIZES], self.columns[_WEIGHTS])

    def squares_by_row(self) -> dict[int, int]:
        """Return the same for each row that has samples, wherever it is."""
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


def _numbers(code: str, column: bytes) -> "memoryview[int]":
    return memoryview(column).cast(code)  # type: ignore[call-overload,no-any-return]
