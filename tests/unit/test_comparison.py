"""What became of stacks: matched by place and by name, at two times of one process, with limits that hold."""

from __future__ import annotations

import json
import random
from heapq import heapify, heappop, heappush
from types import SimpleNamespace

import pytest
from recordingwriter import RecordingWriter, word

from memleak import cli, errors, recording
from memleak.comparison import ORDERS
from memleak.query import Snapshot

FULL = word(1, 1)


class Names:
    """Names places by a table; of an inlined place several functions."""

    def __init__(self, names):
        self._names = names

    def frames(self, path, build_id, vaddr, exact):
        found = self._names.get(vaddr, ())
        found = (found,) if isinstance(found, str) else found
        return [
            SimpleNamespace(function=one, file="f.c", line=vaddr, inlined=n < len(found) - 1)
            for n, one in enumerate(found)
        ]


def snapshot_of(*writers, names=None):
    symbolizer = None if names is None else Names(names)
    return Snapshot([recording.parse(one.bytes(), f"r{n}") for n, one in enumerate(writers)], symbolizer=symbolizer)


def version(build, stacks, **header):
    """A process of one build: (places, live bytes, options of its row) by stack, weight 1."""
    writer = RecordingWriter(**{"initial": FULL, **header})
    app = writer.module("/opt/app", build_id=bytes([build]) * 20, main=True)
    for places, size, options in stacks:
        row = writer.row([(app, vaddr) for vaddr in places], bytes=size, count=1, **options)
        if size:
            writer.live(row, size=size)
    return writer


def changes(found):
    return [(one.diff_est_bytes, one.older_est_bytes, one.est_bytes, one.status) for one in found]


def test_two_versions_are_matched_by_the_names_of_functions():
    """Other places, copies that compilers make, inlined calls and labels: the same chain of names is the same stack."""
    older = version(1, [([0x10, 0x20], 100, {}), ([0x11, 0x20], 50, {}), ([0x30], 7, {}), ([0x40], 9, {})])
    newer = version(2, [([0x110, 0x120], 500, {}), ([0x130], 7, {}), ([0x150], 3, {}), ([0x160], 0, {})], recording_id=2)
    names = {0x10: "make.isra.0", 0x11: "make.constprop.3.cold", 0x20: "main", 0x30: ("inner", "outer"), 0x40: "gone_now"}
    newer_names = {0x110: "make", 0x120: "main", 0x130: ("inner", "outer"), 0x150: "added [clone .part.0]", 0x160: "x"}
    sides = snapshot_of(newer, names=newer_names), snapshot_of(older, names=names)
    found = sides[0].diff(sides[1], match="name")
    assert changes(found) == [(350, 150, 500, None), (3, 0, 3, "new"), (0, 7, 7, None), (0, 0, 0, None), (-9, 9, 0, "gone")]
    assert found.counts == {"both": 2, "new": 1, "gone": 1}
    assert found.total == (344, 0, 344, 344) and found.seconds is None
    assert found[0].native_trace == "make (f.c:272) < main (f.c:288)" and found[-1].native_trace == "gone_now (f.c:64)"
    assert all(one.exact for one in found)
    # By place nothing is the same.
    assert sides[0].diff(sides[1]).counts == {"both": 0, "new": 3, "gone": 4}


def test_inlining_labels_and_ways_of_asking_tell_stacks_apart():
    names = {0x10: "f", 0x20: ("f", "g"), 0x30: "f"}
    older = version(1, [([0x10], 10, {}), ([0x10], 20, {"domain": 2})])
    older.labels({1: "a=1"})
    newer = version(2, [([0x20], 30, {}), ([0x30], 40, {"domain": 2}), ([0x30], 50, {"label_set": 1})])
    newer.labels({1: "a=1"})
    found = snapshot_of(newer, names=names).diff(snapshot_of(older, names=names), match="name")
    assert changes(found) == [(50, 0, 50, "new"), (30, 0, 30, "new"), (20, 20, 40, None), (-10, 10, 0, "gone")]
    assert [one.mod_name for one in found] == ["glibc_malloc", "glibc_malloc", "operator_new", "glibc_malloc"]


def test_what_has_no_name_is_known_by_module_and_address():
    """The same library in both; another build of it has other addresses."""
    older, newer = (version(n, [([0x10 * n, 0x77], 10 * n, {})]) for n in (1, 2))
    sides = snapshot_of(newer, names={0x20: "f"}), snapshot_of(older, names={0x10: "f"})
    assert changes(sides[0].diff(sides[1], match="name")) == [(10, 10, 20, None)]
    sides = snapshot_of(newer, names={}), snapshot_of(older, names={})
    assert sides[0].diff(sides[1], match="name").counts == {"both": 0, "new": 1, "gone": 1}


def script(directory, lines, size, native=()):
    """A Python program: Python frames alone, in functions that begin on other lines."""
    writer = RecordingWriter(initial=FULL, python_version=0x030A0DF0, python_state=1)
    python = writer.module("/usr/bin/python3.10", build_id=b"\x01" * 20, main=True)
    codes = [writer.code(f"/srv/{directory}/app/{file}", name, first_line=line, kind=2, table=bytes([4, 1]))
             for (file, name), line in zip((("pool.py", "Pool.take"), ("__init__.py", "main")), lines)]  # fmt: skip
    stack = writer.python_stack([(code, 0) for code in codes])
    writer.live(writer.row([(python, vaddr) for vaddr in native], python=stack, domain=3), size=size)
    return writer


def test_python_frames_are_matched_by_file_and_name_without_lines():
    older, newer = snapshot_of(script("1.2", (10, 20), 100)), snapshot_of(script("1.3", (14, 30), 700))
    assert newer.diff(older).counts == {"both": 0, "new": 1, "gone": 1}
    (found,) = newer.diff(older, match="name")
    assert (found.diff_est_bytes, found.status, found.mod_name) == (600, None, "pymalloc_obj")
    assert found.python_trace == "Pool.take at /srv/1.3/app/pool.py:15 < main at /srv/1.3/app/__init__.py:31"


def test_names_are_needed_where_there_are_native_frames():
    one = snapshot_of(script("1", (1, 2), 10, native=(0x10,)))
    with pytest.raises(errors.QueryError, match="matching by name needs the names of native functions"):
        one.diff(one, match="name")
    with pytest.raises(errors.QueryError, match="by 'line': they can by place, name"):
        one.diff(one, match="line")
    with pytest.raises(errors.QueryError, match="cannot be sorted by 'exact': they can by diff_est_bytes"):
        one.diff(one).sorted_by("exact")


def sampled(lives, *, heartbeat_cs, **header):
    """One process: a stack with these live samples, (born_cs, size[, weight]), of weight 50, and one that never changes."""
    writer = RecordingWriter(heartbeat_cs=heartbeat_cs, **header)
    app = writer.module("/opt/app", build_id=b"\x01" * 20, main=True)
    row = writer.row([(app, 0x10)], bytes=50 * sum(size for _, size, *_ in lives))
    for born, size, *weight in lives:
        writer.live(row, size=size, weight=weight[0] if weight else 50, born_cs=born)
    writer.live(writer.row([(app, 0x20)]), size=5000, weight=50, born_cs=1)
    return writer


def test_samples_that_both_times_share_cancel_out():
    """A gigabyte that stays does not blur the megabyte that grows."""
    before = [(n, 1 << 20) for n in range(20)] + [(50, 3000)]
    after = before[:-1] + [(7000, 1000), (8000, 1000)]
    older, newer = (sampled(lives, heartbeat_cs=end) for lives, end in ((before, 6000), (after, 12_000)))
    found = snapshot_of(newer).diff(snapshot_of(older))
    assert found.seconds == 60
    unchanged, grown = found
    assert grown.diff_est_bytes == 50 * (2000 - 3000) and grown.diff_bytes_per_s == pytest.approx(-50_000 / 60)
    assert grown.diff_est_bytes_se == round((50 * 49 * (2 * 1000**2 + 3000**2)) ** 0.5)
    # Nothing is known of a stack of which no change was sampled, unless all is recorded.
    assert (unchanged.diff_est_bytes, unchanged.diff_est_bytes_se, unchanged.diff_est_bytes_low) == (0, None, None)
    assert found.total == grown[8:12]

    other = sampled(before, heartbeat_cs=6000, recording_id=2)
    found = snapshot_of(newer).diff(snapshot_of(other))
    assert found.seconds is None and {one.diff_bytes_per_s for one in found} == {None}
    assert found[1].diff_est_bytes_se == pytest.approx((50 * 49 * 40) ** 0.5 * (1 << 20), rel=1e-3)
    assert found[0].diff_est_bytes_se == round((50 * 49 * 2) ** 0.5 * 5000)


def test_limits_hold_the_growth_of_one_process():
    """Of 400 processes at two times at least 93 % of the limits hold the truth; the mean is right."""
    chance = random.Random(5)
    held, errors_of = 0, []
    for _ in range(400):
        before = {n: 1000 for n in range(3000)}
        after = {n: size for n, size in before.items() if chance.random() < 0.7}
        after.update({n: 1000 for n in range(3000, 5000)})
        sampled_ones = {n for n in range(5000) if chance.random() < 1 / 50}
        sides = [
            sampled([(n + 1, size) for n, size in live.items() if n in sampled_ones], heartbeat_cs=end)
            for live, end in ((before, 6000), (after, 12_000))
        ]
        for one in sides:
            one.live_capacity = 4096
        truth = 1000 * (len(after) - len(before))
        row = max(snapshot_of(sides[1]).diff(snapshot_of(sides[0])), key=lambda one: one.samples)
        held += row.diff_est_bytes_low <= truth <= row.diff_est_bytes_high
        errors_of.append((row.diff_est_bytes - truth) / row.diff_est_bytes_se)
    assert held >= 0.93 * 400
    assert abs(sum(errors_of) / 400) < 4 / 20


def merged(lives, room, chance):
    """Return (born, size, weight) of *lives*, the lightest two made one until there are *room*."""
    waiting = [(size * weight, chance.random(), born, size) for born, size, weight in lives]
    heapify(waiting)
    while len(waiting) > room:
        first, second = heappop(waiting), heappop(waiting)
        value = first[0] + second[0]
        _, _, born, size = first if chance.random() < first[0] / value else second
        heappush(waiting, (value, chance.random(), born, size))
    return [(born, size, value / size) for value, _, born, size in waiting]


def test_limits_hold_while_samples_are_merged():
    """A set that is full: what has another weight is in both all the same. The limits hold, and are not much wider than need be."""
    chance = random.Random(6)
    held, errors_of = 0, []
    for _ in range(400):
        # Nine of ten samples are other stacks', which are merged with these.
        before = [(n + 1, 1000 + n % 10, 50.0) for n in range(40_000) if chance.random() < 1 / 50]
        older = merged(before, 700, chance)
        freed = {n + 1 for n in range(4000) if chance.random() < 0.02}
        after = [one for one in older if one[0] not in freed]
        after += [(n + 50_001, 1000, 50.0) for n in range(100) if chance.random() < 1 / 50]
        newer = merged(after, 400, chance)
        sides = [
            sampled([one for one in lives if one[0] <= 4000 or one[0] > 50_000], heartbeat_cs=end, counters={"thinned": 30})
            for lives, end in ((older, 60_000), (newer, 120_000))
        ]
        truth = 100 * 1000 - sum(1000 + (born - 1) % 10 for born in freed)
        row = max(snapshot_of(sides[1]).diff(snapshot_of(sides[0])), key=lambda one: one.samples)
        held += row.diff_est_bytes_low <= truth <= row.diff_est_bytes_high
        errors_of.append((row.diff_est_bytes - truth) / row.diff_est_bytes_se)
    assert held >= 0.93 * 400
    assert abs(sum(errors_of) / 400) < 4 / 20
    assert 0.45 < sum(error * error for error in errors_of) / 400 < 1.2


def test_narrow_gaps_have_no_limits():
    older, newer = (sampled([(1, 10)] * n, heartbeat_cs=6000, initial=word(16, 17), recording_id=n) for n in (1, 2))
    found = snapshot_of(newer).diff(snapshot_of(older))
    assert {one.diff_est_bytes_se for one in found} == {None} and found.total.low is None


def test_pools_are_in_no_total():
    writer = version(1, [([0x10], 100, {})])
    pool = writer.pool(b"buddy")
    row = writer.row([(1, 0x20)], domain=128 + pool)
    writer.live(row, size=40, layer=4)
    found = snapshot_of(writer).diff(snapshot_of(version(1, [([0x10], 70, {})], recording_id=2)))
    assert [(one.mod_name, one.diff_est_bytes) for one in found] == [("buddy", 40), ("glibc_malloc", 30)]
    assert found.total.value == 30


def test_orders_and_slices():
    older = version(1, [([0x10], 5, {}), ([0x20], 90, {}), ([0x30], 8, {})])
    newer = version(1, [([0x10], 50, {}), ([0x20], 91, {}), ([0x40], 2, {})], recording_id=2)
    found = snapshot_of(newer).diff(snapshot_of(older))
    for by in ORDERS:
        ordered = found.sorted_by(by)
        values = [getattr(one, by) for one in ordered]
        assert values == sorted(values, reverse=True) and len(values) == len(ordered) == 4
        assert ordered[0] == list(ordered)[0] and list(ordered[1:3]) == list(ordered)[1:3]
    assert {len(one.values()) for one in found} == {len(found[0].columns())}


def test_command(tmp_path, capsys):
    """Grown, new, shrunk and gone stacks, both footers; one line for what cannot be."""
    older = version(1, [([0x10], 5000, {}), ([0x20], 900, {}), ([0x30], 80, {})], heartbeat_cs=6000)
    newer = version(1, [([0x10], 70_000, {}), ([0x20], 100, {}), ([0x40], 20, {})], recording_id=2, heartbeat_cs=60_000)
    paths = [tmp_path / "older.mlrec", tmp_path / "newer.mlrec"]
    for path, writer in zip(paths, (older, newer)):
        path.write_bytes(writer.bytes())

    def said(*words):
        status = cli.main(["diff", *map(str, paths), *words])
        return status, *capsys.readouterr()

    status, out, err = said("--no-symbols")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("older: app (pid 4711") and lines[1].startswith("newer: app (pid 4711")
    assert "note: recorded for different times: what grows by itself differs for that alone" in lines
    assert "matched by place: 2 stacks in both, 1 new, 1 gone" in lines and "all together: +62.6 KiB (exact)" in lines
    rows = [line.split() for line in lines if line[:1].isdigit()]
    assert [(row[0], row[1] + row[2], row[-1]) for row in rows] == [
        ("1", "+63.5KiB", "app+0x10"), ("2", "+20B", "app+0x40"), ("1", "-800B", "app+0x20"), ("2", "-80B", "app+0x30"),
    ]  # fmt: skip
    assert "new" in rows[1] and "gone" in rows[3] and out.index("what shrank:") < out.index("-800 B")
    assert "#1  +63.5 KiB  (exact; glibc_malloc)\n    app+0x10\n#2  +20 B  (exact; glibc_malloc; new)\n" in out
    assert out.count("own cost: ") == 2 and out.index("of the older:") < out.index("of the newer:")

    assert "app+0x40" not in said("--no-symbols", "-n", "1")[1]
    assert "what shrank" not in said("--no-symbols", "--by", "samples")[1]
    answer = json.loads(said("--no-symbols", "--json")[1])
    assert set(answer) == {"match", "seconds", "stacks", "total", "rows", "shrunk", "older", "newer"}
    assert [row["diff_est_bytes"] for row in answer["rows"] + answer["shrunk"]] == [65_000, 20, -800, -80]
    assert answer["rows"][1]["status"] == "new" and answer["rows"][0]["frames"][0]["vaddr"] == 0x10
    assert answer["total"]["value"] == 64_140 and answer["stacks"] == {"both": 2, "new": 1, "gone": 1}
    assert answer["older"]["footer"]["live_samples"] == 3

    for words, status, text in (
        (["--by", "labels"], 1, "changes cannot be sorted by 'labels'"),
        (["--no-symbols", "--match", "name"], 1, "matching by name needs the names of native functions"),
        (["--match", "line"], 2, "invalid choice: 'line'"),
    ):
        found = said(*words)
        assert (found[0], found[1], found[2].count("\n")) == (status, "", 1) and text in found[2]
    assert cli.main(["diff", str(paths[0]), "/nowhere.mlrec"]) == 1
    assert "memleak diff: /nowhere.mlrec" in capsys.readouterr().err


def test_command_says_how_one_process_went_on(tmp_path, capsys):
    paths = []
    for name, lives, end in (("a", [(1, 1000)], 6000), ("b", [(1, 1000), (7000, 600)], 12_000)):
        paths.append(str(tmp_path / f"{name}.mlrec"))
        (tmp_path / f"{name}.mlrec").write_bytes(sampled(lives, heartbeat_cs=end).bytes())
    assert cli.main(["diff", *paths, "--no-symbols"]) == 0
    out = capsys.readouterr().out
    assert "one process, 60s later: samples that are live in both cancel out\n" in out
    assert "per min" in out and "+29.3 KiB" in out and "app+0x20" not in out
    assert cli.main(["diff", *reversed(paths), "--no-symbols"]) == 0
    out = capsys.readouterr().out
    assert "one process, 60s EARLIER: OLDER and NEWER are swapped" in out and "nothing has grown" in out
