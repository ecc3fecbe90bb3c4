"""The verdicts of a snapshot's stacks as columns of its rows: worked out at first use, of all stacks together."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .aside import aside
from .grouping import Group, Source
from .merging import Groups
from .once import once
from .rows import NO_WORD, Word

if TYPE_CHECKING:
    from .verdict import Series, Verdict

Member = tuple[int, int]  # number of the source, index of the row


class Judgement:
    """What the growth of every stack means. It can be asked about any rows of its recordings."""

    def __init__(self, sources: tuple[Source, ...], find: Callable[[], Sequence[Group]]) -> None:
        """Take the recordings and what finds all of their stacks; it is called at first use."""
        self._sources = sources
        self._find = find

    @aside
    def __call__(self, sources: tuple[Source, ...], group: Group) -> Word:
        """Return the word on a group of rows of *sources*, each of which is one of the snapshot's."""
        if group.kind == "thread":
            return NO_WORD  # verdicts are those of stacks, and of these a thread has a part
        members = group.members if sources is self._sources else self._own(sources, group.members)
        words, rates = self._found
        if group.kind == "stack":
            return words.get(members[0], NO_WORD)
        growth = [rates[member] for member in members if member in rates]
        return (sum(growth), None) if growth else NO_WORD

    @aside
    def at(self, member: Member) -> Word:
        """Return the word on the stack that a row has, by the number of its recording and its index."""
        return self._found[0].get(member, NO_WORD)

    def _own(self, sources: tuple[Source, ...], members: Iterable[Member]) -> list[Member]:
        return [(self._sources.index(sources[number]), index) for number, index in members]

    @once
    def _found(self) -> tuple[dict[Member, Word], dict[Member, float]]:
        """Words by row, of which a stack may have several; the growth of those that grow by the first of them."""
        from .suspects import verdicts

        groups: Iterable[Group] = self._find()
        found: dict[Member, Word] = {}
        rates = {}
        if isinstance(groups, Groups):
            (source,) = self._sources
            numbers, judged = by_column(source, groups)
            pairs: Iterable[tuple[list[Member], Verdict]] = zip(
                ([(0, index) for index in groups.stacks.rows(number)] for number in numbers), judged
            )
        else:
            pairs = ((group.members, verdict) for group, verdict in verdicts(self._sources, groups))
        for members, verdict in pairs:
            word = verdict.rate.value if verdict.rate is not None else None, verdict.verdict
            found.update(dict.fromkeys(members, word))
            if verdict.rate is not None:
                rates[members[0]] = verdict.rate.value
        return found, rates


def by_column(source: Source, groups: Groups) -> tuple[list[int], list["Verdict"]]:
    """Return the numbers of the stacks of one recording that hold something, and the verdict of each.

    The same that `suspects.verdicts` finds, from columns: no group is made, and of most stacks nothing has to be known
    but their live samples.
    """
    from .suspects import least_age_s, series_of
    from .verdict import GROWING_EVENTS, LEAST_EVENTS, TOO_FEW, Series, Verdict, few, judge, judge_alone

    not_yet = Verdict(TOO_FEW, "")
    stacks, table = groups.stacks, source.recording.table
    samples, taken, held = stacks.sums("samples"), stacks.taken, stacks.sums("est_bytes")
    squares, firsts = table.live_squares(), table.column("first_cs")
    peaks, peaks_at = table.column("peak_bytes"), table.column("peak_cs")
    several = {*stacks.merged, *table.merged}
    now_cs, shortest_s = source.now_cs, least_age_s((source,), {0})
    oldest_cs = now_cs - 100 * shortest_s
    numbers: list[int] = []
    found: list[Verdict] = []
    series: dict[int, Series] = {}
    others = 0
    for number in groups.numbers:
        if not samples[number]:
            continue
        if number in several:
            group = stacks.group(number)
            series[len(found)] = series_of((source,), {0}, group.members, group.recorded)
            found.append(not_yet)
        elif samples[number] < LEAST_EVENTS or held[number] ** 2 < LEAST_EVENTS * squares[number]:
            found.append(few(samples[number], max(samples[number], taken[number])))
        else:
            peak = peaks_at[number], peaks[number]
            one = _series(source, number, firsts[number], peak, taken[number])
            if held[number] ** 2 < GROWING_EVENTS * squares[number] and firsts[number] <= oldest_cs:
                others += 1
                found.append(judge_alone(one))
            else:
                series[len(found)] = one
                found.append(not_yet)
        numbers.append(number)
    for at, verdict in zip(series, judge(list(series.values()), shortest_s=shortest_s, others=others)):
        found[at] = verdict
    return numbers, found


def _series(source: Source, number: int, first_cs: int, peak: tuple[int, int], taken: int) -> "Series":
    """Return a stack that is one row as `suspects.series_of` does; *peak* is (cs, bytes)."""
    from .verdict import Series

    table, now_cs = source.recording.table, source.now_cs

    def history() -> list[tuple[float, float]]:
        return [((at - now_cs) / 100, float(value)) for at, value in table.history(number)]

    samples = [((born - now_cs) / 100, weight, size) for born, weight, size in table.sized_samples(number)]
    return Series(samples, history, (first_cs - now_cs) / 100, 0.0, ((peak[0] - now_cs) / 100, float(peak[1])), taken)
