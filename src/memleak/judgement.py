"""The verdicts of a snapshot's stacks as columns of its rows: worked out at first use, of all stacks together."""

from collections.abc import Callable, Iterable, Sequence

from .aside import aside
from .grouping import Group, Source
from .merging import Groups
from .once import once
from .rows import NO_WORD, Word

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
            found, groups = _few(groups)
        for group, verdict in verdicts(self._sources, groups):
            word = verdict.rate.value if verdict.rate is not None else None, verdict.verdict
            found.update(dict.fromkeys(group.members, word))
            if verdict.rate is not None:
                rates[group.members[0]] = verdict.rate.value
        return found, rates


def _few(groups: Groups) -> tuple[dict[Member, Word], list[Group]]:
    """Return the words on stacks of few samples, for which no group has to be made, and the groups of the others."""
    from .verdict import CHURN, CHURNED, LEAST_EVENTS, TOO_FEW

    stacks = groups.stacks
    samples, taken, several = stacks.sums("samples"), stacks.taken, stacks.merged
    found: dict[Member, Word] = {}
    others = []
    for number in groups.numbers:
        if samples[number] >= LEAST_EVENTS or number in several:
            others.append(stacks.group(number))
        elif samples[number]:
            found[0, number] = (None, CHURN if max(samples[number], taken[number]) >= CHURNED else TOO_FEW)
    return found, others
