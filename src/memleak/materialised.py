"""Results of queries that are in memory twice: as the rows of a database client's library, and as Python's objects.

A client that takes in the whole result keeps it until it is closed or read to its end; rows made of it are bought
beside it. What tells the two is the native stack: through the client's library to malloc, or to Python's allocators.

SQLite is left out. Its library buffers no result: it holds its pages, and a sorter that gives up each row that it has
returned.
"""

import re
from typing import NamedTuple, Optional

from . import layout
from .estimate import Estimate, estimate_bytes
from .grouping import PYTHON_DOMAINS, Group, Source
from .records import OTHER_LABELS, Labels, LiveSums, RecordedRow
from .rows import Row
from .stacks import Tracer
from .suspects import chosen_sources

NOW, PEAK = "now", "peak"
SMALLER_PART = 0.25  # of the larger: less is a batch, not a copy
SURE = 0.25  # lower limit, as a part of the estimate, of both
LEAST_BYTES = 1 << 20  # of each: with less, no cursor is worth a thought
PEAKS_APART_S = 60.0
_OUTCOME = "outcome"
_NATIVE_DOMAINS = frozenset(map(layout.DOMAINS.index, ("glibc_malloc", "operator_new", "mmap")))
_FETCHES = re.compile(r"(?:.*\.)?_?fetch\w*")  # methods of cursors, as drivers in Python have them


class Client(NamedTuple):
    """A database's client: its name, how the files of its code are called, and how rows come one by one."""

    name: str
    files: "re.Pattern[str]"
    advice: str


def _client(name: str, files: str, advice: str) -> Client:
    return Client(name, re.compile(rf"(?:^|/)(?:{files})[^/]*$"), advice)


# Modules of Python before the libraries that they use: the first that a stack passes through is named.
CLIENTS = (
    _client("mysqlclient", r"MySQLdb/_mysql\.", "use MySQLdb.cursors.SSCursor, and iterate or fetchmany()"),
    _client("MySQL Connector/Python", r"_mysql_connector\.", "use cursor(buffered=False), and iterate or fetchmany()"),
    _client("MariaDB Connector/Python", r"_mariadb\.", "use cursor(buffered=False), and iterate or fetchmany()"),
    _client("psycopg2", r"psycopg2/_psycopg\.", 'use a named cursor, cursor(name="…"), and iterate or fetchmany()'),
    _client(
        "psycopg",
        r"psycopg_(?:c|binary)/(?:_psycopg|pq)\.",
        'use a server-side cursor, cursor(name="…"), or cursor.stream()',
    ),
    _client(
        "libpq",
        r"libpq[-.]",
        'use a named (server-side) cursor, cursor(name="…"), and iterate or fetchmany(); psycopg 3: or cursor.stream()',
    ),
    _client(
        "libmysqlclient",
        r"lib(?:mysqlclient|mariadb|mariadbclient|perconaserverclient)[-._]",
        "use the driver's unbuffered cursor (of mysqlclient MySQLdb.cursors.SSCursor), and iterate or fetchmany()",
    ),
    _client("Oracle's client", r"lib(?:clntsh|clntshcore|ociei)[-.]", "iterate or fetchmany(); a smaller arraysize"),
    _client("ODBC", r"lib(?:odbc|iodbc|tdsodbc|sybdb|msodbcsql)[-.\d]", "iterate or fetchmany(), forward only"),
)  # fmt: skip


class Side(NamedTuple):
    """One of the two copies.

    Attributes:
        now: its live bytes.
        peak: the most that its stacks held, added up; the limits take the samples for equal ones.
        row: the stack that held the most of it at its peak.
    """

    now: Estimate
    peak: Estimate
    row: Row


class Materialised(NamedTuple):
    """The result of a query that is, or was, in memory twice.

    Attributes:
        labels: `sql` alone where a statement is known, else all of them without the outcome.
        client: whose library holds the driver's bytes.
        when: "now": both are live; "peak": both were at their peaks, which were `apart_s` apart.
        driver, python: the two copies.
        apart_s: seconds from the driver's peak to Python's.
        advice: what keeps it from being there twice.
    """

    labels: Labels
    client: str
    when: str
    driver: Side
    python: Side
    apart_s: float
    advice: str

    @property
    def driver_bytes(self) -> Estimate:
        """The driver's bytes, as of `when`."""
        return self.driver.now if self.when == NOW else self.driver.peak

    @property
    def python_bytes(self) -> Estimate:
        """The bytes of Python's objects, as of `when`."""
        return self.python.now if self.when == NOW else self.python.peak


def materialised(sources: tuple[Source, ...], tracer: Tracer) -> list[Materialised]:
    """Return every result that is in memory twice, those that are so now first, then the greatest."""
    clients = [_clients(source) for source in sources]
    drivers: dict[tuple[int, Labels], _Part] = {}
    pythons: dict[tuple[int, Labels], _Part] = {}
    for number in sorted(chosen_sources(sources)):
        of_module = clients[number]
        if not of_module:
            continue
        for index, row in enumerate(sources[number].recording.rows):
            labels = _key(row.labels)
            if not labels or not row.alloc_samples:
                continue
            passed = [of_module[frame.module_id] for frame in row.stack if frame.module_id in of_module]
            key = number, labels  # peaks are moments of one process
            if row.domain in _NATIVE_DOMAINS and passed:
                drivers.setdefault(key, _Part()).add(index, row, min(passed))
            elif row.domain in PYTHON_DOMAINS and (passed or _fetches(row)):
                pythons.setdefault(key, _Part()).add(index, row, min(passed, default=len(CLIENTS)))
    found = []
    for key, driver in drivers.items():
        if key in pythons:
            one = _compared(sources, tracer, key, driver, pythons[key])
            if one is not None:
                found.append(one)
    found.sort(key=lambda one: (one.when != NOW, -one.driver_bytes.value - one.python_bytes.value, one.labels))
    return found


def _clients(source: Source) -> dict[int, int]:
    """Return the modules that are a client's: number of the module -> number of the client."""
    found = {}
    for module in source.recording.modules:
        for number, client in enumerate(CLIENTS):
            if client.files.search(module.path):
                found[module.id] = number
                break
    return found


def _key(labels: Labels) -> Labels:
    if labels == OTHER_LABELS:
        return ()
    statement = tuple(pair for pair in labels if pair[0] == "sql")
    return statement or tuple(pair for pair in labels if pair[0] != _OUTCOME)


def _fetches(row: RecordedRow) -> bool:
    return any(_FETCHES.fullmatch(frame.name or "") for frame in row.python_stack)


class _Part:
    """The rows of one side."""

    def __init__(self) -> None:
        self.members: list[tuple[int, RecordedRow]] = []
        self.client = len(CLIENTS)
        self.live = LiveSums()

    def add(self, index: int, row: RecordedRow, client: int) -> None:
        self.members.append((index, row))
        self.client = min(self.client, client)
        self.live = self.live + row.live

    @property
    def largest(self) -> tuple[int, RecordedRow]:
        return max(self.members, key=lambda member: member[1].peak_bytes)

    def at_peak(self) -> LiveSums:
        """Return what its stacks held at their peaks, those that had them when the largest had its own."""
        at_cs = self.largest[1].peak_cs
        total = LiveSums()
        for _, row in self.members:
            if abs(row.peak_cs - at_cs) <= 100 * PEAKS_APART_S:
                total = total + _at_peak(row)
        return total

    def side(self, source: Source, number: int, sources: tuple[Source, ...], tracer: Tracer) -> Side:
        narrow = source.narrow({row.domain for _, row in self.members})
        index, row = self.largest
        group = Group(index, index)
        group.add((number, index), row)
        now, peak = (estimate_bytes(sums, narrow=narrow) for sums in (self.live, self.at_peak()))
        return Side(now, peak, group.row(sources, tracer))


def _at_peak(row: RecordedRow) -> LiveSums:
    """Return the sums that samples as this row's mean one would have at its peak."""
    if not row.peak_bytes or not row.alloc_bytes or not row.alloc_samples or not row.alloc_count:
        return LiveSums()
    weight = max(1.0, row.alloc_count / row.alloc_samples)
    count = row.peak_bytes / row.alloc_bytes * row.alloc_count
    each = row.peak_bytes / count
    samples = count / weight
    value = float(row.peak_bytes)
    return LiveSums(
        max(1, round(samples)), round(value / weight), count, value, count * (weight - 1), value * each * (weight - 1),
        count * weight, value * each * weight, (weight, round(each)),
    )  # fmt: skip


def _compared(
    sources: tuple[Source, ...], tracer: Tracer, key: tuple[int, Labels], driver: _Part, python: _Part
) -> Optional[Materialised]:
    number, labels = key
    apart_s = (python.largest[1].peak_cs - driver.largest[1].peak_cs) / 100
    if _both_there(driver.live, python.live):
        when = NOW
    elif _both_there(driver.at_peak(), python.at_peak()) and abs(apart_s) <= PEAKS_APART_S:
        when = PEAK
    else:
        return None
    client = CLIENTS[min(driver.client, python.client)]
    held, made = (part.side(sources[number], number, sources, tracer) for part in (driver, python))
    return Materialised(labels, client.name, when, held, made, apart_s, client.advice)


def _both_there(one: LiveSums, other: LiveSums) -> bool:
    """Whether both are more than chance would have, and of a kind: neither is a small part of the other."""
    smaller, larger = sorted((one.est_bytes, other.est_bytes))
    return smaller >= LEAST_BYTES and smaller >= SMALLER_PART * larger and all(map(_is_sure, (one, other)))


def _is_sure(sums: LiveSums) -> bool:
    found = estimate_bytes(sums)
    return found.low is not None and found.low >= SURE * found.value
