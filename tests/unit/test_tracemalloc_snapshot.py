"""memleak.tracemalloc's snapshots beside the standard module's, from the same traces and from hand-made recordings."""

from __future__ import annotations

import os
import pickle
import tracemalloc as standard
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordingwriter import RecordingWriter

import memleak.tracemalloc as ours
from memleak import recording
from memleak.estimate import estimate_bytes
from memleak.records import LiveSums
from memleak.tracemalloc.blocks import UNKNOWN, RawTraces, SampledTrace, raw_traces

FRAMES = st.tuples(st.sampled_from(["a.py", "b.py", "<unknown>"]), st.integers(0, 3))
TRACES = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 5000), st.lists(FRAMES, min_size=1, max_size=3).map(tuple), st.just(3)),
    max_size=12,
)
KEYS = [("traceback", False), ("lineno", False), ("filename", False), ("lineno", True), ("filename", True)]


def facts(found) -> list[tuple]:
    """Return what an answer says, whoever gives it."""
    return [(one.traceback, one.size, one.count, str(one), repr(one), hash(one)) for one in found]


@given(TRACES, TRACES)
def test_same_answers_as_the_standard_module(old, new):
    """Numbers, order, texts, equality and hashes, of all ways to ask."""
    mine, theirs = ours.Snapshot(new, 3), standard.Snapshot(new, 3)
    for key, cumulative in KEYS:
        assert facts(mine.statistics(key, cumulative)) == facts(theirs.statistics(key, cumulative))
        assert mine.statistics(key, cumulative) == theirs.statistics(key, cumulative)
        changed = mine.compare_to(ours.Snapshot(old, 3), key, cumulative)
        expected = theirs.compare_to(standard.Snapshot(old, 3), key, cumulative)
        assert facts(changed) == facts(expected) and changed == expected
        assert mine.compare_to(standard.Snapshot(old, 3), key, cumulative) == expected
        assert theirs.compare_to(ours.Snapshot(old, 3), key, cumulative) == expected
    assert [(str(t), repr(t), t.size, t.domain) for t in mine.traces] == [
        (str(t), repr(t), t.size, t.domain) for t in theirs.traces
    ]


@given(TRACES)
def test_same_filters_as_the_standard_module(traces):
    """They are the standard module's; the result is a snapshot of ours."""
    mine, theirs = ours.Snapshot(traces, 3), standard.Snapshot(traces, 3)
    for filters in (
        [],
        [ours.Filter(True, "a.py")],
        [ours.Filter(False, "a.py", 2, all_frames=True), ours.DomainFilter(False, 1)],
        (ours.Filter(True, "*", domain=0), ours.Filter(True, "b.py", 1)),
    ):
        found = mine.filter_traces(filters)
        assert type(found) is ours.Snapshot
        assert list(found.traces) == list(theirs.filter_traces(filters).traces)


def test_traces_are_a_sequence():
    """With slices, membership and equality, as the standard module's."""
    raw = [(0, 10, (("a.py", 1),), 1), (1, 20, (("b.py", 2),), 1)]
    traces = ours.Snapshot(raw, 1).traces
    assert len(traces) == 2 and repr(traces) == "<Traces len=2>"
    assert traces[1].size == 20 and traces[-1] == traces[1] and traces[:1] == (traces[0],)
    assert traces[0] in traces and ours.Trace((9, 9, (("z", 9),), 1)) not in traces
    assert traces == ours.Snapshot(list(raw), 1).traces and traces != ours.Snapshot(raw[:1], 1).traces


@pytest.mark.parametrize(
    ("key", "cumulative", "words"),
    [("nothing", False, "unknown key_type: 'nothing'"), ("traceback", True, "cumulative mode cannot by used")],
)
def test_bad_keys(key, cumulative, words):
    """Refused in the standard module's words."""
    with pytest.raises(ValueError, match=words):
        ours.Snapshot([], 1).statistics(key, cumulative)


def test_exact_numbers_have_no_error():
    """Of a snapshot in full mode, or made by hand."""
    snapshot = ours.Snapshot([(0, 10, (("a.py", 1),), 1)] * 3, 1)
    (one,) = snapshot.statistics("lineno")
    assert (one.size, one.count, one.samples) == (30, 3, 3)
    assert (one.size_se, one.size_low, one.size_high) == (0, 30, 30)
    assert (one.count_estimate.se, one.count_estimate.low, one.count_estimate.high) == (0, 3, 3)
    (change,) = snapshot.compare_to(ours.Snapshot([], 1), "lineno")
    assert (change.size_diff, change.size_diff_se, change.size_diff_low, change.size_diff_high) == (30, 0, 30, 30)
    assert snapshot.exact and snapshot.exact_reasons == ()
    assert (snapshot.traces[0].weight, snapshot.traces[0].block_size) == (1, 10)


# -- sampled ---------------------------------------------------------------------------------------


def sampled(count: int = 40, narrow: bool = False) -> ours.Snapshot:
    """Return a snapshot of *count* blocks of 100 bytes that stand for 10 each, and one that stands for itself."""
    place = (("a.py", 1), ("main.py", 9))
    traces = [SampledTrace.of(0, 100, 10.0, place, 2) for _ in range(count)]
    traces.append((1, 5000, (("b.py", 2),), 1))
    return ours.Snapshot(RawTraces(traces, ["sampled"], narrow), 5)


def test_sampled_numbers_are_estimates_with_errors():
    """size and count are whole numbers that stand for all blocks; the error is memleak.estimate's."""
    one, whole = sampled().statistics("lineno")
    expected = estimate_bytes(LiveSums.of([(10.0, 100)] * 40))
    assert (one.size, one.count, one.samples) == (40_000, 400, 40)
    assert one.size_se == pytest.approx(expected.se)
    assert (one.size_low, one.size_high) == pytest.approx((expected.low, expected.high))
    assert 200 < one.count_estimate.low < 400 < one.count_estimate.high < 600
    assert (whole.size, whole.size_low, whole.size_high) == (5000, 5000, 5000)
    trace = sampled().traces[0]
    assert (trace.size, trace.block_size, trace.weight) == (1000, 100, 10)
    assert sum(trace.size for trace in sampled().traces) == 45_000
    assert not sampled().exact and sampled().exact_reasons == ("sampled",)


def test_sampled_differences():
    """Errors add up as those of independent numbers."""
    change, same = sampled(90).compare_to(sampled(40), "lineno")
    errors = [one.statistics("lineno")[0].size_se for one in (sampled(90), sampled(40))]
    assert change.size_diff == 50_000 and change.size_diff_se == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5)
    assert change.size_diff_low < 50_000 < change.size_diff_high
    assert (same.size_diff, same.size_diff_se) == (0, 0)


def test_narrow_gaps_have_no_error():
    """Not even after a filter."""
    snapshot = sampled(narrow=True).filter_traces([ours.Filter(True, "a.py")])
    (one,) = snapshot.statistics("traceback")
    assert (one.size, one.size_se, one.size_low, one.size_high) == (40_000, None, None, None)
    (change,) = snapshot.compare_to(ours.Snapshot([], 1), "traceback")
    assert (change.size_diff_se, change.size_diff_low, change.size_diff_high) == (None, None, None)
    assert snapshot.exact_reasons == ("sampled",)


# -- from a recording ------------------------------------------------------------------------------


def test_live_samples_become_traces():
    """Frames the most recent first and cut; Python's domains are 0; what has no Python frame is unknown."""
    writer = RecordingWriter(python_version=0x030C01F0, python_state=1)
    codes = [writer.code(f"{name}.py", name, first_line=number) for number, name in enumerate("abc", 1)]
    stack = writer.python_stack([(code, 0x7FFFFFFF if code == codes[0] else 0) for code in codes])
    of_object = writer.row(domain=3, python=stack)
    of_malloc = writer.row(domain=1, python=stack)
    native = writer.row(domain=6)
    for row, size, weight in ((of_object, 10, 1), (of_malloc, 20, 1), (native, 30, 1.5), (of_object, 40, 1)):
        writer.live(row, size=size, weight=weight)
    found = raw_traces(recording.parse(writer.bytes()), 2, Counter())
    assert [(domain, size) for domain, size, _, _ in found] == [(0, 10), (1, 20), (6, 45), (0, 40)]
    frames, total = found[0][2:]
    assert found[2][2:] == (UNKNOWN, 1)
    assert [name for name, _ in frames] in (["a.py", "b.py"], ["b.py", "c.py"]) and total in (3, 2)
    assert found[1][2] is frames and found[3][2] is frames


def test_what_was_cleared_is_left_out():
    """As often as it was there then: a later block of the same kind is shown."""
    writer = RecordingWriter()
    row = writer.row(domain=3)
    for born_cs in (5, 5, 7):
        writer.live(row, size=10, born_cs=born_cs)
    found = recording.parse(writer.bytes())
    cleared = Counter(found.live[:1])
    assert len(raw_traces(found, 1, cleared)) == 2
    assert cleared == Counter(found.live[:1])
    assert raw_traces(found, 1, Counter(found.live)) == []


# -- files -----------------------------------------------------------------------------------------


def test_dump_and_load(tmp_path):
    """Everything comes back: weights, reasons, and what the program added."""
    snapshot = sampled()
    snapshot.note = {"build": [1, 2.5, None, "x"]}
    snapshot.dump(tmp_path / "file")
    found = ours.Snapshot.load(tmp_path / "file")
    assert found.traces == snapshot.traces and found.note == snapshot.note
    assert (found.traceback_limit, found.exact_reasons) == (5, ("sampled",))
    assert [one.size_se for one in found.statistics("lineno")] == [one.size_se for one in snapshot.statistics("lineno")]


def test_load_what_the_standard_module_wrote(tmp_path):
    """It becomes a snapshot of ours."""
    theirs = standard.Snapshot([(0, 10, (("a.py", 1),), 1)], 3)
    theirs.dump(str(tmp_path / "file"))
    found = ours.Snapshot.load(tmp_path / "file")
    assert type(found) is ours.Snapshot and list(found.traces) == list(theirs.traces) and found.exact
    assert facts(found.statistics("lineno")) == facts(theirs.statistics("lineno"))


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_cannot_make_us_run_code(tmp_path, wrapped):
    """Nothing is imported for it."""
    snapshot = sampled()
    snapshot.note = Hostile(str(tmp_path / "made"))
    (tmp_path / "file").write_bytes(pickle.dumps(snapshot if wrapped else snapshot.note))
    with pytest.raises(pickle.UnpicklingError, match=r"not a snapshot of tracemalloc: there is a posix\.mkdir"):
        ours.Snapshot.load(tmp_path / "file")
    assert not (tmp_path / "made").exists()


def test_a_file_of_something_else(tmp_path):
    """Is refused, too."""
    (tmp_path / "file").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(pickle.UnpicklingError, match="not a snapshot of tracemalloc"):
        ours.Snapshot.load(tmp_path / "file")
