"""Bytes that calls leave behind, by how they ended: of labels with an outcome, for each failed and successful call.

What lies under `outcome=X` and the labels of an entry, or labels within it, belongs to the calls that ended so. A stack
that grows tells of each call; what came once (a start-up, a cache that is full) does not, whatever it is divided by.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from .estimate import Estimate, estimate_bytes
from .grouping import Source
from .records import Labels, LiveSums, RecordedRow
from .suspects import Judged, chosen_sources, counts, series_of
from .units import size
from .verdict import LEAK, TOO_FEW, VERDICTS

OUTCOME = "outcome"
OK = "ok"
LEAST_CALLS = 10  # fewer tell nothing of each
APART_Z = 3.0  # so many standard errors, of sampling and of the blocks' coming by chance
_SMALL_BYTES = 512  # the greatest of Python's small objects


class Ended(NamedTuple):
    """The calls of one set of labels that ended one way.

    Attributes:
        outcome: `ok`, or the name of an exception's type. What is under way counts as `ok`.
        calls: that have ended so, exactly.
        est_bytes: live bytes under it, whatever their stacks' verdicts.
        per_call: the same for each call; None without calls.
        left_per_call: for each call what is live at stacks that leak; while none is known to leak, at those of which
            it cannot be told yet. None without calls.
        growth_per_call: of the stacks that leak, their rate by the calls a second; None when none leaks.
        verdicts: how many of its stacks got each verdict.
        samples: live samples.
    """

    outcome: str
    calls: int
    est_bytes: Estimate
    per_call: Optional[Estimate]
    left_per_call: Optional[Estimate]
    growth_per_call: Optional[Estimate]
    verdicts: dict[str, int]
    samples: int

    @property
    def leaks(self) -> int:
        """How many of its stacks leak."""
        return self.verdicts.get(LEAK, 0)


class PerCall(NamedTuple):
    """What the calls under one set of labels leave behind.

    Attributes:
        labels: without the outcome.
        ended: by outcome, `ok` first, then the most frequent.
        kind: "leak": stacks under an outcome leak; "difference": calls that failed have left more than others, which is
            too little, or too young, for a verdict; "": neither.
        finding: that as a sentence; empty when there is none.
    """

    labels: Labels
    ended: tuple[Ended, ...]
    kind: str
    finding: str

    @property
    def est_bytes(self) -> float:
        """Live bytes under all outcomes."""
        return sum(one.est_bytes.value for one in self.ended)


def per_call(sources: tuple[Source, ...], judged: Judged) -> list[PerCall]:
    """Return every set of labels with outcomes, of the recordings that *judged* judges."""
    chosen = chosen_sources(sources)
    ways = _calls(sources, chosen)
    if not ways:
        return []
    under: dict[tuple[Labels, str], _Under] = {
        (labels, outcome): _Under(sources, calls) for labels, found in ways.items() for outcome, calls in found.items()
    }
    owners: dict[Labels, Optional[tuple[Labels, str]]] = {}
    for group, verdict in judged.stacks:
        held = [
            (member, row) for member, row in zip(group.members, group.recorded) if member[0] in chosen and counts(row)
        ]
        if not held:
            continue
        labels = held[0][1].labels
        if labels not in owners:
            owners[labels] = _owner(labels, ways)
        owner = owners[labels]
        if owner is not None:
            under.setdefault(owner, _Under(sources, {})).add(held, verdict.verdict, verdict.rate)
    exact = all(sources[number].is_exact for number in chosen)
    found = [
        _told(labels, {outcome: part for (owner, outcome), part in under.items() if owner == labels}, exact)
        for labels in ways
    ]
    found.sort(key=lambda one: (one.kind != "leak", not one.kind, -one.est_bytes, one.labels))
    return found


def _calls(sources: tuple[Source, ...], chosen: Iterable[int]) -> dict[Labels, dict[str, dict[int, int]]]:
    """Return the calls that ended: labels without the outcome -> outcome -> number of the source -> calls."""
    found: dict[Labels, dict[str, dict[int, int]]] = {}
    for number in sorted(chosen):
        for labels, calls in sources[number].recording.calls.items():
            rest, outcome = _split(labels)
            if outcome is not None:
                found.setdefault(rest, {}).setdefault(outcome, {})[number] = calls
    return found


def _split(labels: Labels) -> tuple[Labels, Optional[str]]:
    """Return labels without their outcome, and that."""
    outcome = next((value for name, value in labels if name == OUTCOME), None)
    return tuple(pair for pair in labels if pair[0] != OUTCOME), outcome


def _owner(labels: Labels, ways: dict[Labels, dict[str, dict[int, int]]]) -> Optional[tuple[Labels, str]]:
    """Return whose calls hold what is under *labels*: the entry's with the most labels; None when it is not known."""
    rest, outcome = _split(labels)
    if outcome is None:
        return None
    mine = set(rest)
    around = [each for each in ways if mine.issuperset(each)]
    most = [each for each in around if len(each) == max(map(len, around))]
    if len(most) > 1:  # labels within an entry, and one of them is elsewhere an entry's
        most = [each for each in most if outcome in ways[each]]
    return (most[0], outcome) if len(most) == 1 else None


class _Under:
    """What lies under one outcome of one set of labels."""

    def __init__(self, sources: tuple[Source, ...], calls: dict[int, int]) -> None:
        self.sources = sources
        self.calls_of = calls
        self.calls = sum(calls.values())
        self.verdicts: list[str] = []
        self.members: list[tuple[tuple[int, int], RecordedRow, str]] = []
        self.rates: list[Estimate] = []

    def add(self, held: Sequence[tuple[tuple[int, int], RecordedRow]], verdict: str, rate: Optional[Estimate]) -> None:
        self.verdicts.append(verdict)
        self.members += [(member, row, verdict) for member, row in held]
        if verdict == LEAK and rate is not None:
            self.rates.append(rate)

    def sums(self, *verdicts: str) -> LiveSums:
        """Return the sums over stacks with these verdicts, over all without any."""
        total = LiveSums()
        for _, row, verdict in self.members:
            if not verdicts or verdict in verdicts:
                total = total + row.live
        return total

    def estimate(self, sums: LiveSums) -> Estimate:
        numbers = {member[0] for member, _, _ in self.members} | set(self.calls_of)
        domains = {row.domain for _, row, _ in self.members}
        narrow = any(self.sources[number].narrow(domains) for number in numbers)
        bounds = [_unseen_bytes(self.sources[number]) for number in numbers]
        known = [bound for bound in bounds if bound is not None]
        # Several processes that took no sample are one in which none was taken.
        bound = max(known) if known and len(known) == len(bounds) else None
        return estimate_bytes(sums, narrow=narrow, sample_bytes=bound)

    @property
    def verdict_of_left(self) -> str:
        return LEAK if LEAK in self.verdicts else TOO_FEW

    def growth_per_call(self) -> Optional[Estimate]:
        calls_a_second = sum(
            calls / (self.sources[number].now_cs / 100)
            for number, calls in self.calls_of.items()
            if self.sources[number].now_cs > 0
        )
        return _divided(_added(self.rates), calls_a_second) if self.rates and calls_a_second else None

    def is_one_off(self) -> bool:
        """Whether most of what has no verdict yet came at one moment of those in which these calls were."""
        held = [(member, row) for member, row, verdict in self.members if verdict == TOO_FEW]
        members = [member for member, _ in held]
        series = series_of(self.sources, {number for number, _ in members}, members, [row for _, row in held])
        low, high = series.shortest_with(0.8)
        return high - low <= series.age / 10


def _told(labels: Labels, parts: dict[str, _Under], exact: bool) -> PerCall:
    order = sorted(parts, key=lambda outcome: (outcome != OK, -parts[outcome].calls, outcome))
    ended = tuple(_ended(outcome, parts[outcome]) for outcome in order)
    leaking = [one for one in ended if one.leaks and one.left_per_call is not None]
    if leaking:
        return PerCall(labels, ended, "leak", _sentence(labels, leaking, ended, exact))
    apart = [one for one in ended if one.outcome != OK and _stands_out(parts[one.outcome], ended, parts)]
    if apart:
        words = _sentence(labels, apart, ended, exact) + "; too few samples, or too young, for a verdict"
        return PerCall(labels, ended, "difference", words)
    return PerCall(labels, ended, "", "")


def _ended(outcome: str, part: _Under) -> Ended:
    whole, left = part.estimate(part.sums()), part.estimate(part.sums(part.verdict_of_left))
    return Ended(
        outcome,
        part.calls,
        whole,
        _divided(whole, part.calls) if part.calls else None,
        _divided(left, part.calls) if part.calls else None,
        part.growth_per_call(),
        {name: part.verdicts.count(name) for name in VERDICTS if name in part.verdicts},
        part.sums().samples,
    )


def _stands_out(mine: _Under, ended: Sequence[Ended], parts: dict[str, _Under]) -> bool:
    """Whether failed calls have left more than successful ones, by more than chance, and not all at one moment."""
    sums = mine.sums(TOO_FEW)
    if mine.calls < LEAST_CALLS or not sums.samples:
        return False
    least = (sums.est_bytes - APART_Z * math.sqrt(sums.square_bytes)) / mine.calls
    most = 0.0
    if OK in parts and parts[OK].calls:
        (others,) = [one for one in ended if one.outcome == OK]
        assert others.left_per_call is not None
        # Where no bound is known, three samples such as these.
        unknown = 3 * sums.est_bytes / max(1, sums.samples) / others.calls
        most = unknown if others.left_per_call.high is None else others.left_per_call.high
    return least > most and not mine.is_one_off()


# -- words -------------------------------------------------------------------------------------------


def _sentence(labels: Labels, subjects: Sequence[Ended], ended: Sequence[Ended], exact: bool) -> str:
    under = ", ".join(f"{name}={value}" for name, value in labels)
    parts = []
    for one in subjects:
        how = "succeeds" if one.outcome == OK else f"fails with {one.outcome}"
        each = "leaves" if one.leaks else "has left"
        parts.append(f"each call that {how} {each} {_amount(one)} behind")
    for one in ended:
        if one not in subjects and one.calls:
            how = "succeed" if one.outcome == OK else f"fail with {one.outcome}"
            verb = "leave" if subjects[0].leaks else "have left"
            parts.append(f"calls that {how} {verb} {_at_most(one, exact)}")
    return (f"under {under} " if under else "") + "; ".join(parts)


def _amount(one: Ended) -> str:
    left = one.left_per_call
    assert left is not None
    if left.low is None or left.high is None:
        return f"{size(left.value)} [no interval]"
    return size(left.value) + ("" if left.low == left.high else f" [{size(left.low)}, {size(left.high)}]")


def _at_most(one: Ended, exact: bool) -> str:
    """Say what calls leave of which no stack is known to leak: some of it may have come once, for all of them."""
    left = one.left_per_call
    assert left is not None
    if left.samples:
        return f"at most {size(math.ceil(left.value if left.high is None else left.high))}"
    if one.samples:
        return "nothing that leaks"
    if exact:
        return "nothing"
    return "nothing that was seen" + (f" [< {size(math.ceil(left.high))}]" if left.high else "")


# -- numbers -----------------------------------------------------------------------------------------


def _unseen_bytes(source: Source) -> Optional[float]:
    """Return the mean of what is allocated until a sample is taken of it at the latest; None when it is not known."""
    header = source.recording.header
    if not header.counts_native:
        return None
    native = source.sample_bytes(())
    if native is None or not header.counts_python or source.python_is_full:
        return native
    if header.python_changed or header.governor_changes:
        return None
    least, greatest = header.python_effective[:2]
    return max(native, (least + greatest) / 2 * _SMALL_BYTES)


def _divided(total: Estimate, by: float) -> Estimate:
    value, se, low, high = (None if each is None else each / by for each in total[:4])
    return total._replace(value=value or 0.0, se=se, low=low, high=high)


def _added(rates: Sequence[Estimate]) -> Estimate:
    """Return the sum of rates, their errors added as independent ones."""
    value = sum(rate.value for rate in rates)
    samples = sum(rate.samples for rate in rates)
    below = [rate.value - rate.low for rate in rates if rate.low is not None]
    above = [rate.high - rate.value for rate in rates if rate.high is not None]
    errors = [rate.se for rate in rates if rate.se is not None]
    se = math.hypot(*errors) if len(errors) == len(rates) else None
    low = max(0.0, value - math.hypot(*below)) if len(below) == len(rates) else None
    high = value + math.hypot(*above) if len(above) == len(rates) else None
    return Estimate(value, se, low, high, samples)
