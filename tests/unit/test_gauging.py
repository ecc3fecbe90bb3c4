"""Gauges: decoded from any bytes, written from outside as the process would write them, and laid beside live bytes."""

import random
import struct

import pytest
from recordingwriter import RecordingWriter
from tracedprocess import traced_process

from memleak import gauging, layout, query, recording, scaling
from memleak.cli import gauge as cli
from memleak.errors import QueryError, TargetError
from memleak.records import gauge_value, gauge_word
from memleak.regression import Series, fit, median_slope, student
from memleak.verdict import discoveries
from memleak.scaling import moments_of


def parse(writer):
    return recording.parse(writer.bytes())


def word(tick, level, value):
    """Return (slot, word) of a period of a history."""
    period = tick >> 2 * level
    return (level, period % 16), (1 + period % 0xFFFFFF) << 40 | value


# -- decoding ----------------------------------------------------------------------------------------


def test_value_in_forty_bits():
    """Exact up to 2^33, and to 2.4e-10 beyond; towards 0."""
    rng = random.Random(1)
    values = [0, 1, -1, (1 << 33) - 1, 1 << 33, (1 << 63) - 1, -(1 << 63), -(1 << 33) + 1]
    values += [rng.randrange(-(1 << rng.randrange(1, 64)), 1 << rng.randrange(1, 63)) for _ in range(2000)]
    for value in values:
        packed = gauge_word(value)
        assert 0 <= packed < 1 << 40
        back = gauge_value(packed)
        assert abs(back) <= abs(value) and abs(value - back) <= abs(value) * 2.4e-10
        assert abs(value) >= 1 << 33 or back == value


def test_history():
    """At the moments that histories of rows have: a period's end, the running one at the end of the recording."""
    writer = RecordingWriter(heartbeat_cs=4500)
    history = dict([word(3, 0, gauge_word(-7)), word(10, 0, gauge_word(8)), word(12, 0, gauge_word(30)), word(3, 1, gauge_word(-7))])
    writer.gauge("tables", 30, first_cs=900, set_cs=4480, changed_cs=4450, history=history, tick=12)
    (found,) = parse(writer).gauges
    assert found[:5] == ("tables", 30, 900, 4480, 4450) and not found.from_outside
    assert found.history == ((1200, -7), (4000, 8), (4500, 30))


def test_set_when_nothing_was_allocated():
    """The recording's own last moment is long ago; the gauge's history goes on."""
    writer = RecordingWriter(heartbeat_cs=500)
    writer.gauge("x", 6, first_cs=600, set_cs=90_000, changed_cs=88_000, history=dict([word(221, 0, 6), word(2, 0, 4), word(2, 5, 4)]))
    (found,) = parse(writer).gauges
    assert found.history == ((800, 4), (88_400, 6), (90_000, 6))


def test_what_is_not_whole_is_not_there():
    """Empty, half-named, of another length, with bytes that no name has; never set; of two the program's."""
    writer = RecordingWriter()
    writer.gauge("claimed", 1, state=1)
    writer.gauge("unknown", 1, state=3)
    writer.gauge("long", 1, name_bytes=49)
    writer.gauge("huge", 1, name_bytes=0xFFFFFFFF)
    writer.gauge("", 1)
    writer.gauge(b"a\xff", 1)
    writer.gauge("a=b", 1)
    writer.gauge("1a", 1)
    writer.gauge("never", 5, first_cs=0, set_cs=0, changed_cs=0, history=dict([word(1, 0, 3)]))
    writer.gauge("both", 5)
    writer.gauge("both", 9, order=0)
    writer.gauge("outer", 9, order=0)
    writer.gauge("outer", 0, first_cs=0)  # the program has named it and never set it
    found = {one.name: one for one in parse(writer).gauges}
    assert list(found) == ["both", "never", "outer"]
    assert (found["never"].value, found["never"].history) == (None, ())
    assert (found["both"].value, found["both"].from_outside) == (5, False)
    assert (found["outer"].value, found["outer"].from_outside) == (9, True)


@pytest.mark.parametrize("seed", range(30))
def test_any_bytes(seed):
    """Whatever stands in the segment: no error, values of 64 bits, names that are names, history in order."""
    rng = random.Random(seed)
    writer = RecordingWriter(heartbeat_cs=rng.choice((0, 1, 5000, 1 << 31)))
    for order in (0, 1, 2):
        for n in range(16):
            writer.gauge(f"g{n}", 1, order=order)
            raw = bytearray(writer.gauges[order][-1])
            for _ in range(rng.randrange(1, 40)):
                raw[rng.randrange(len(raw))] = rng.choice((0, 0xFF, rng.randrange(256)))
            raw[60:] = rng.choice((raw[60:], rng.randbytes(len(raw) - 60) if hasattr(rng, "randbytes") else raw[60:]))
            writer.gauges[order][-1] = bytes(raw)
    writer.row([(writer.module("/app", main=True), 16)], samples=5, bytes=500)
    snapshot = query.Snapshot(parse(writer))
    for one in snapshot.recordings[0].gauges:
        assert gauging.checked_name(one.name) and (one.value is None or gauging.checked_value(one.value) == one.value)
        assert list(one.history) == sorted(one.history)
    assert len(snapshot.gauges()) <= 80
    if any(one.value is not None for one in snapshot.gauges()):
        cli.lines(snapshot.scaling(what_if={one.name: 5 for one in snapshot.gauges() if one.value is not None}))


def test_cut_file():
    """As far as it goes, and what is missing is said."""
    writer = RecordingWriter()
    writer.gauge("x", 1)
    raw = writer.bytes()
    segment = next(s for s in _segments(raw) if s[0] == layout.KIND_GAUGES)
    found = recording.parse(raw[: segment[3] + 400])
    assert found.gauges == () and any("gauges" in words for words in found.incomplete)


def _segments(raw):
    return [struct.unpack_from("<IHHQQII", raw, 4096 + 32 * n) for n in range(128)]


# -- writing from outside ----------------------------------------------------------------------------


def test_set_from_outside(tmp_path):
    """A new one in the readers' segment; one that is there where it stands; the rest of the file is as it was."""
    with traced_process(tmp_path, gauges=[("mine", 7)]) as (process, path):
        before = path.read_bytes()
        gauging.set_gauges(process.pid, {"fresh": -3, "mine": 1 << 40})
        found = {one.name: one for one in recording.load(path).gauges}
        assert (found["fresh"].value, found["fresh"].from_outside) == (-3, True)
        assert (found["mine"].value, found["mine"].from_outside) == (1 << 40, False)
        assert found["fresh"].first_cs == found["fresh"].set_cs > 0
        gauging.set_gauges(path, {"fresh": -3})
        again = {one.name: one for one in recording.load(path).gauges}["fresh"]
        assert again.changed_cs == found["fresh"].changed_cs and again.set_cs >= found["fresh"].set_cs
        after = path.read_bytes()
        spans = [range(s[3], s[3] + s[4]) for s in _segments(before) if s[0] == layout.KIND_GAUGES]
        changed = [at for at, (a, b) in enumerate(zip(before, after)) if a != b]
        assert changed and all(any(at in span for span in spans) for at in changed)


def test_half_written_place_is_taken_again(tmp_path):
    """Whoever died before the last word left nothing."""
    with traced_process(tmp_path, gauges=[(b"half\xff\xff", 7, 0, 0)]) as (process, path):
        assert recording.load(path).gauges == ()
        gauging.set_gauges(process.pid, {"h": 1})
        (found,) = recording.load(path).gauges
        assert found[:2] == ("h", 1)


def test_all_or_none(tmp_path):
    """Seventeen need more places than there are."""
    with traced_process(tmp_path, gauges=[("mine", 7)]) as (process, path):
        before = path.read_bytes()
        with pytest.raises(TargetError, match=r"no place for g16: 16 gauges can be made from outside; nothing was changed"):
            gauging.set_gauges(process.pid, {"mine": 8, **{f"g{n}": n for n in range(17)}})
        for bad in ({"a b": 1}, {"mine": 1 << 63}, {}):
            with pytest.raises(ValueError):
                gauging.set_gauges(process.pid, bad)
        assert path.read_bytes() == before
        gauging.set_gauges(process.pid, {f"g{n}": n for n in range(16)})
        assert len(recording.load(path).gauges) == 17


def test_early_core(tmp_path):
    """Without the segment."""
    with traced_process(tmp_path) as (process, path):
        with pytest.raises(TargetError, match="an early one without gauges"):
            gauging.set_gauges(process.pid, {"x": 1})
        assert query.open(process.pid).gauges() == []


def test_damaged_directory(tmp_path):
    """A segment beyond the file is not written to."""
    with traced_process(tmp_path, gauges=[("mine", 7)]) as (process, path):
        raw = path.read_bytes()
        at = next(4096 + 32 * n for n, s in enumerate(_segments(raw)) if s[0] == layout.KIND_GAUGES)
        with open(path, "r+b") as file:
            for offset in (1 << 40, len(raw) - 8, 8193, 16):
                file.seek(at + 8)
                file.write(struct.pack("<Q", offset))
                file.flush()
                with pytest.raises(TargetError, match="damaged: its segment of gauges"):
                    gauging.set_gauges(path, {"x": 1})


def test_dead_and_copies(tmp_path):
    """They are not written."""
    writer = RecordingWriter(state=2)
    writer.gauge("x", 1)
    path = tmp_path / "dead.mlrec"
    path.write_bytes(writer.bytes())
    with pytest.raises(TargetError, match="its gauges cannot be set"):
        gauging.set_gauges(path, {"x": 2})


@pytest.mark.parametrize(
    ("text", "value"), [("a=5", 5), ("a=-5", -5), ("a=1e6", 10**6), ("a=1_000", 1000), ("a=+3", 3), ("a:b/c-d.e=0", 0)]
)
def test_words(text, value):
    assert gauging.parse(text) == (text.partition("=")[0], value)


@pytest.mark.parametrize("text", ["a", "=5", "a=", "a=x", "a=1.5", "a=nan", "a=inf", "a=1e400", f"a={1 << 63}", "ä=1", "a b=1", "a=1=2"])
def test_bad_words(text):
    with pytest.raises(ValueError):
        gauging.parse(text)


# -- lines -------------------------------------------------------------------------------------------


def test_moments_are_the_ends_of_periods():
    """Sixteen seconds' worth of ticks, then four at a time, and so on; the last moment is now."""
    header = parse(RecordingWriter(heartbeat_cs=400 * 5000 + 7)).header
    found = moments_of(header, header.end_cs)
    assert found == sorted(set(found)) and found[-1] == header.end_cs and len(found) <= 96
    assert found[-2] == 400 * 5000 and found[-16] == 400 * (5000 - 14)
    assert all(moment % 400 == 0 for moment in found[:-1])
    assert found[0] == 400 * 1023  # the first that the coarsest level tells
    assert len(moments_of(header._replace(history_levels=64, history_slots=64), header.end_cs)) <= 128
    assert moments_of(header._replace(history_unit_cs=0), header.end_cs) == []


def test_exact_line():
    """In full mode a straight line is exact, and a bent one says so by its width."""
    x = [float(n) for n in range(100, 1100, 100)]
    line = fit(x, Series([50 + 7 * one for one in x], [0.0] * 10), [10_000.0])
    assert line.slope == pytest.approx(7) and line.base == pytest.approx(50) and line.half_width < 1e-6
    assert line.r_squared == pytest.approx(1) and line.predictions[0][0] == pytest.approx(70_050)
    bent = fit(x, Series([one * one / 100 for one in x], [0.0] * 10), [10_000.0])
    assert bent.half_width > 0.2 * bent.slope and bent.predictions[0][1] > 0.2 * bent.predictions[0][0]


@pytest.mark.parametrize("moved", [3, 7, 29])
def test_what_never_changes_follows_nothing(moved):
    """Errors that all moments share say nothing of a slope: 0, which rounding does not make less than that."""
    x = [20.0] * moved + [700.0] * (31 - moved) + [30.0]
    line = fit(x, Series([2700.0] * 32, [14_688_000.0] * 32), [1e12])
    assert line.slope == 0 and line.half_width < 1e-3 and line.predictions[0][0] == 2700


def test_one_outlier_is_told():
    """The median of slopes is not moved by it."""
    x = [float(n) for n in range(1, 21)]
    y = [100 * one for one in x]
    y[18] += 5000
    assert median_slope(x, y) == pytest.approx(100) and fit(x, Series(y, [0.0] * 20)).slope > 120


def test_student_and_discoveries():
    assert [round(student(n), 2) for n in (1, 3, 10)] == [12.71, 3.18, 2.23]
    assert student(30) == pytest.approx(2.042, rel=0.01) and student(1000) == pytest.approx(1.962, rel=0.01)
    assert discoveries([0.01, 0.04, 0.03, 0.5], 0.05) == [True, False, False, False]
    assert discoveries([0.001, 0.02, 0.03, 0.5], 0.05) == [True, True, True, False]
    assert discoveries([], 0.05) == []


def service(*, slope=1000, weight=3.0, ticks=40, static=False, limit=None):
    """Return a recording of a stack that follows a gauge, one that does not, and one that never changes."""
    now = 400 * ticks - 1
    writer = RecordingWriter(heartbeat_cs=now, **({} if limit is None else {"limit": (1, now, *limit)}))
    app = writer.module("/app", main=True)
    levels = {tick: 50 if static else 10 + 5 * (tick - ticks + 15) for tick in range(ticks - 14, ticks + 1)}
    last = levels[ticks]

    def past(value_of):
        return dict(word(tick, 0, value_of(tick)) for tick in levels)

    rng = random.Random(3)
    noise = {tick: 30_000 + rng.randrange(20_000) for tick in levels}
    noise[ticks] = 40_000
    follows = writer.row([(app, 16)], samples=last, bytes=slope * last, history=writer.history(past(lambda t: slope * levels[t])))
    other = writer.row([(app, 32)], samples=40, bytes=40_000, history=writer.history(past(noise.get)))
    still = writer.row([(app, 48)], samples=5, bytes=5000, first_cs=10)
    for row, number in ((follows, last), (other, 40), (still, 5)):
        for _ in range(round(number / weight)):
            writer.live(row, size=1000, weight=weight)
    writer.gauge("tables", last, first_cs=20, set_cs=now, changed_cs=now, history=past(levels.get), tick=ticks)
    return query.Snapshot(parse(writer))


def test_the_stack_that_follows_is_found():
    """With bytes per unit as blocks x size; what would be at another size; the ones that do not follow are left out."""
    found = service().scaling(what_if={"tables": 800})
    (law,) = found.rows
    assert law.row.back_trace.split()[0] == "0x10" and law.significant and law.gauge == "tables"
    assert law.bytes_per_unit == pytest.approx(1000) and law.low < 1000 < law.high and law.r_squared > 0.99
    assert (law.least, law.greatest, law.value) == (15, 85, 85) and law.count_per_unit == pytest.approx(1)
    (one,) = law.predictions
    assert (one.gauge, one.value) == ("tables", 800) and one.low < 800_000 < one.high
    assert any("9.41 times the greatest value seen" in note for note in law.notes)
    (total,) = found.totals
    assert total.row is None and total.est_bytes == pytest.approx(130_000, rel=0.03)
    assert found.limit_bytes is None and total.predictions[0].used_bytes is None


def test_limit():
    """What the limit says of it: with what else is used."""
    found = service(limit=(1_000_000, 300_000, 200_000)).scaling("tables", {"tables": 8500})
    (one,) = found.totals[0].predictions
    beside = 300_000 - found.totals[0].est_bytes
    assert one.used_bytes == pytest.approx(beside + one.bytes) and one.used_low == pytest.approx(beside + one.low)
    words = "\n".join(cli.lines(found))
    assert "TOO MUCH" in words and "the cgroup's limit" in words
    assert "fits" in "\n".join(cli.lines(service(limit=(1 << 40, 300_000, 200_000)).scaling(what_if={"tables": 8500})))
    assert "perhaps" in "\n".join(cli.lines(service(limit=(8_900_000, 300_000, 200_000)).scaling(what_if={"tables": 8500})))


def test_static_gauge_gives_a_ratio():
    """It is said to be one, with the largest stacks."""
    found = service(static=True).scaling(what_if={"tables": 500})
    assert [law.kind for law in (*found.totals, *found.rows)] == ["ratio"] * 4
    law = found.rows[0]
    assert law.bytes_per_unit == pytest.approx(law.est_bytes / 50) and law.low < law.bytes_per_unit < law.high
    assert "a ratio, not a slope" in law.notes[-1] and not law.significant
    assert law.predictions[0].bytes == pytest.approx(10 * law.est_bytes)
    assert "(RATIO)" in "\n".join(cli.lines(found))


def test_a_recording_without_a_history_of_its_own_gives_a_ratio():
    """A damaged header tells no moments: no stack has a past there."""
    writer = RecordingWriter(history_unit_cs=0)
    writer.live(writer.row([(writer.module("/opt/app"), 16)], samples=1, bytes=6000), size=6000)
    writer.gauge("tables", 30)
    found = query.Snapshot(parse(writer)).scaling(what_if={"tables": 60})
    assert [law.kind for law in (*found.totals, *found.rows)] == ["ratio"] * 2
    assert found.totals[0].bytes_per_unit == 200 and found.totals[0].moments == 0


def test_refusals():
    writer = RecordingWriter()
    writer.gauge("never", 0, first_cs=0)
    one = query.Snapshot(parse(writer))
    with pytest.raises(QueryError, match="no gauge was set"):
        one.scaling()
    writer.gauge("x", 3)
    one = query.Snapshot(parse(writer))
    with pytest.raises(QueryError, match="no gauge 'y' was set: there are x"):
        one.scaling("y")
    with pytest.raises(QueryError, match="2 recordings"):
        query.Snapshot([parse(writer), parse(writer)]).scaling()
    assert scaling.choose(one.recordings[0].gauges, "x", {})[0].name == "x"


def test_rivals_are_named():
    """Of two gauges that explain a stack as well as each other, the answer says so."""
    snapshot = service()
    found = snapshot.recordings[0]
    (gauge,) = found.gauges
    twin = gauge._replace(name="views", value=gauge.value * 2, history=tuple((cs, 2 * v) for cs, v in gauge.history))
    source = snapshot.sources[0]
    groups = snapshot._all.groups
    answer = scaling.laws(source, groups, lambda some: [None] * len(some), [gauge, twin], {}, None)
    (law,) = answer.rows
    assert any("nearly as much" in note for note in law.notes) and len(answer.totals) == 2


def test_sql():
    """The tables gauges and gauge_history."""
    snapshot = service()
    assert snapshot.sql("SELECT name, value, least, greatest, from_outside FROM gauges").rows == [("tables", 85, 15, 85, 0)]
    assert snapshot.sql("SELECT count(*), max(value) FROM gauge_history").rows == [(15, 85)]
