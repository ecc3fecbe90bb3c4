"""Write recordings byte by byte, from the C header and not from the decoder.

Nothing of memleak is imported here: offsets and numbers are written out again, as the header
`native/include/memleak_format.h` has them, so that a mistake in the decoder cannot hide itself.

    writer = RecordingWriter(pid=4711)
    app = writer.module("/opt/app", build_id=b"\\x01" * 20, main=True)
    row = writer.row([(app, 0x1234)], samples=3, bytes=9000)
    writer.live(row, size=3000, weight=2.5)
    path.write_bytes(writer.bytes())
"""

import struct

MAGIC = b"MMLEAK01"
COUNTERS = (
    "samples forgotten stack_full row_full live_full live_race region_full address_range history_full"
    " module_full thread_full lost nested truncated unwind_no_cfi unwind_bad_cfi unwind_bounds"
    " unwind_foreign_stack room_grown room_refused knobs_rejected unloads detached displaced"
    " code_full python_full python_truncated python_unreadable copies_failed python_subinterpreter"
    " label_other label_full outcome_missed pool_other pool_full pool_unnoted mismatches mismatch_full gauge_full thinned"
).split()
MASK = (1 << 64) - 1


def word(least, greatest, epoch=1):
    """Return a packed knob word."""
    return least | greatest << 16 | epoch << 32


PYTHON_DEFAULT = word(256, 4096)


def live_check(key, size, row, weight, born, thread):
    """Return the check word of a live entry: the C function, spelled out."""
    total = (
        key
        + size * 0x9E3779B97F4A7C15
        + ((row << 32) | weight) * 0xC2B2AE3D27D4EB4F
        + ((born << 32) | thread) * 0x165667B19E3779F9
    ) & MASK
    return ((total >> 32) ^ total) & 0xFFFFFFFF


class RecordingWriter:
    """Collects tables and records; `bytes()` lays them out as a process would have."""

    def __init__(
        self,
        *,
        pid=4711,
        command=b"app",
        host=b"testhost",
        initial=word(16, 256),
        requested=None,
        effective=None,
        sample_bytes=4 << 20,
        heartbeat_cs=6000,
        stopped_at_cs=0,
        state=1,
        start_ticks=100,
        start_realtime_ns=1_700_000_000 * 10**9,
        start_monotonic_ns=10**9,
        boot_id=bytes(16),
        pid_namespace=0,
        counters=None,
        version=1,
        live_capacity=64,
        index_capacity=64,
        recording_id=1,
        history_unit_cs=400,
        door=0,
        python_version=0,
        python_state=0,
        python_requested=PYTHON_DEFAULT,
        python_effective=PYTHON_DEFAULT,
        native_state=0,
        limit=(0, 0, 0, 0, 0),
        governor=(0, 0, 0, 0, 0),
        label_state=0,
        focus=None,  # requested, effective, matched; None: a core without one
    ):
        self.header = dict(
            version=version, state=state, recording_id=recording_id, run_id=0, pid=pid, parent_pid=1,
            start_ticks=start_ticks, pid_namespace=pid_namespace, uid=0, start_realtime_ns=start_realtime_ns,
            start_monotonic_ns=start_monotonic_ns, boot_id=boot_id, host=host, command=command, initial=initial,
            requested=initial if requested is None else requested,
            effective=initial if effective is None else effective,
            sample_bytes=sample_bytes, heartbeat_cs=heartbeat_cs, stopped_at_cs=stopped_at_cs,
            history_unit_cs=history_unit_cs, door=door, python_version=python_version,
            python_state=python_state, python_requested=python_requested, python_effective=python_effective,
            native_state=native_state, limit=limit, governor=governor, label_state=label_state,
            focus=focus,
        )  # fmt: skip
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.counters.update(counters or {})
        self.live_capacity, self.index_capacity = live_capacity, index_capacity
        self.arena = bytearray()  # records, addressed from arena_offset
        self.arena_offset = 1 << 20  # patched by bytes() only if the tables need more
        self.modules, self.threads, self.rows, self.lives, self.marks = [], [], [], [], []
        self.stacks, self.strings = {}, {}
        self.overflow_row = 0
        self.label_sets = b""
        self.gauges = {}  # order of the segment -> records
        self.extra_segments = []  # (kind, version, order, payload)
        self.pools, self.pool_regions, self.mismatches = [], [], []
        self.looks, self.pinned = [], []

    # -- arena -------------------------------------------------------------------------------------

    def record(self, kind, payload, version=1):
        """Append a record; return its ref."""
        data = struct.pack("<IHH", 8 + len(payload), kind, version) + payload
        ref = (self.arena_offset + len(self.arena)) // 16
        self.arena += data + bytes(-len(data) % 16)
        return ref

    def string(self, text):
        """Append a string, once; return its ref."""
        raw = text if isinstance(text, bytes) else text.encode()
        if raw not in self.strings:
            self.strings[raw] = self.record(4, raw)
        return self.strings[raw]

    def stack(self, frames, *, truncated=False):
        """Append a stack of (module id, vaddr) or (module id, vaddr, exact), once; return its ref."""
        key = (tuple(frames), truncated)
        if key not in self.stacks:
            words = [frame[0] << 48 | (1 << 47 if frame[2:] == (True,) else 0) | frame[1] for frame in frames]
            payload = struct.pack("<QHHI", hash(key) & MASK, len(words), int(truncated), 0)
            self.stacks[key] = self.record(1, payload + struct.pack(f"<{len(words)}Q", *words))
        return self.stacks[key]

    def code(self, file, name, *, first_line=1, kind=3, table=b"", flags=0, table_bytes=None, file_ref=None):
        """Append a Python code object; *kind* is that of its line table. Returns its ref."""
        payload = struct.pack(
            "<QIIiHHII", len(self.arena) << 20 | 5, self.string(file) if file_ref is None else file_ref,
            self.string(name), first_line, kind, flags, len(table) if table_bytes is None else table_bytes, 0,
        )  # fmt: skip
        return self.record(5, payload + table)

    def python_stack(self, frames, *, truncated=False):
        """Append a Python stack of (code ref, offset) or (code ref, offset, entry); return its ref."""
        words = [code << 32 | int(entry == [True]) << 31 | offset for code, offset, *entry in frames]
        payload = struct.pack("<QHHI", hash(tuple(words)) & MASK, len(words), int(truncated), 0)
        return self.record(6, payload + struct.pack(f"<{len(words)}Q", *words))

    def history(self, words):
        """Append a history record of 6 x 16 words given as {(level, slot): word}; return its ref."""
        slots = [0] * 96
        for (level, slot), value in words.items():
            slots[level * 16 + slot] = value
        return self.record(3, struct.pack("<Q96Q", 0, *slots))

    # -- tables ------------------------------------------------------------------------------------

    def module(
        self, path, *, build_id=b"", main=False, flags=0, vaddr_high=0x100000, state=2, coverage=0, slots=(0, 0),
        holder=0,
    ):  # fmt: skip
        """Add a module; *slots* lead to our hooks, and elsewhere. Returns its id."""
        self.modules.append(
            struct.pack(
                "<IIII20sIQQQIIII48x", state, flags | int(main), self.string(path), len(build_id), build_id, 5, 0,
                vaddr_high, 0, coverage, *slots, holder,
            )
        )  # fmt: skip
        return len(self.modules)

    def thread(self, tid, name=b"", *, samples=0, last_cs=100, last_row=0):
        """Add a thread; return its id."""
        self.threads.append(struct.pack("<IIIIQ16sI20x", 1, tid, 0, last_cs, samples, name, last_row))
        return len(self.threads)

    def labels(self, sets, calls=None):
        """Add the segment of label sets, given as number -> text; *calls* are number -> entries that ended so."""
        refs = [self.string(sets[number]) if number in sets else 0 for number in range(1, 256)]
        ended = [(calls or {}).get(number, 0) for number in range(1, 256)]
        self.label_sets = b"".join(struct.pack("<IIQ", ref, 0, number) for ref, number in zip(refs, ended))

    def row(
        self,
        frames=(),
        *,
        key=None,
        domain=1,
        flags=0,
        truncated=False,
        first_cs=100,
        last_cs=5000,
        samples=0,
        freed_samples=0,
        count=0.0,
        freed_count=0.0,
        bytes=0,
        freed_bytes=0,
        peak=0,
        history=0,
        lost=0,
        stack_ref=None,
        python=0,
        indexed=True,
        label_set=0,
    ):
        """Add a row; counts and bytes are estimated totals, *python* the ref of a stack. Returns its ref."""
        if stack_ref is None:
            stack_ref = self.stack(list(frames), truncated=truncated) if frames else 0
        if key is None:
            key = (0x1000_0001 * (len(self.rows) + 1)) << 20 | 7
        payload = struct.pack(
            "<QIIIBBHIIIIQQQQQQQII16x", key, stack_ref, python, label_set, domain, flags, 0, first_cs, last_cs, history,
            0, samples, freed_samples, round(count * 1024), round(freed_count * 1024), bytes, freed_bytes, peak,
            last_cs, lost,
        )  # fmt: skip
        ref = self.record(2, payload)
        if flags & 1:
            self.overflow_row = ref
        elif indexed:
            self.rows.append((key, ref))
        return ref

    def pool(self, name, *, regions=0, capacity=0, ended=0, state=1):
        """Add a pool; return its number."""
        self.pools.append(struct.pack("<IIQQQ64s", state, regions, capacity, ended, 0, name))
        return len(self.pools)

    def pool_region(self, pool, size, *, begun_cs=10):
        """Add a region; return its number."""
        self.pool_regions.append(struct.pack("<IIQ16x", pool, begun_cs, size))
        return len(self.pool_regions)

    def mismatch(
        self, kind, row, frames=(), *, python=0, freed_pool=0, thread=0, size=10, freed=0, count=1, weight=1.0, target=0, state=2,
        first_cs=1, last_cs=2,
    ):  # fmt: skip
        """Add a mismatch of a row, freed by a stack."""
        stack = self.stack(list(frames)) if frames else 0
        self.mismatches.append(
            struct.pack(
                "<IIQIIIIIIIIQQQQQ16x", state, kind, 1, row, stack, python, freed_pool, thread, first_cs, last_cs, 0, size,
                freed, count, round(count * weight * 1024), target,
            )
        )  # fmt: skip

    def live(self, row_ref, *, size, weight=1.0, born_cs=1000, thread=0, check=None, live=True, layer=1):
        """Add a live sample of a row."""
        number = len(self.lives) + 1
        key = (int(live) << 63) | (number & 0x7FF) << 52 | layer << 48 | (0x5A5A_0000_0000 + 16 * number)
        weight = round(weight * 1024)
        right = live_check(key, size, row_ref, weight, born_cs, thread)
        entry = struct.pack(
            "<QIIIIII", size, row_ref, weight, born_cs, thread, right if check is None else check, 0
        )
        self.lives.append((key, entry))

    def mark(self, level, rows, *, cs, limit, used, rss=0, live=0, kind=1, sequence=None, again=None):
        """Add a mark; *rows* are (ref of a row, live bytes)."""
        number = len(self.marks) + 1 if sequence is None else sequence
        refs = [ref for ref, _ in rows] + [0] * (64 - len(rows))
        values = [value for _, value in rows] + [0] * (64 - len(rows))
        self.marks.append(
            struct.pack(
                "<QIIIIQQQQ64I64QQ", number, cs, level, kind, len(rows), limit, used, rss, live, *refs, *values,
                number if again is None else again,
            )
        )  # fmt: skip

    def gauge(
        self, name, value, *, first_cs=100, set_cs=5000, changed_cs=5000, history=None, order=1, state=2, name_bytes=None, tick=0
    ):  # fmt: skip
        """Add a gauge; *history* is words as {(level, slot): word}."""
        raw = name if isinstance(name, bytes) else name.encode()
        slots = [0] * 96
        for (level, slot), word in (history or {}).items():
            slots[level * 16 + slot] = word
        length = len(raw) if name_bytes is None else name_bytes
        self.gauges.setdefault(order, []).append(
            struct.pack("<II48sqIIII96Q", state, length, raw, value, first_cs, set_cs, changed_cs, tick, *slots)
        )

    def look(self, *, cs, sequence=None, again=None, **values):
        """Add a look of the ledger; *values* by the names of `struct mlf_ledger`, 0 where not given."""
        number = len(self.looks) + 1 if sequence is None else sequence
        names = (
            "anonymous file shared swapped locked page_table native large python mapped python_arena own".split(),
            "heap heap_used heap_free heap_fast heap_top heap_mapped".split(),
        )
        first, last = ([values.pop(f"{name}_bytes", 0) for name in part] for part in names)
        states = [values.pop(name, 0) for name in ("heap_state", "heap_cs", "heap_us")]
        head = struct.pack("<QII12Q", number, cs, values.pop("threads", 1), *first)
        if values:
            raise TypeError(f"a look has no {', '.join(values)}")
        again = number if again is None else again
        self.looks.append(head + struct.pack("<IIII6QQ", *states, 0, *last, again))

    def pins(self, rows=(), *, cs=1, regions=0, sparse=0, live=0, sparse_live=0, occupied=0, sparse_occupied=0, number=None,
             sequence=1, again=None):  # fmt: skip
        """Set the pins; *rows* are (ref of a row, live bytes, pinned bytes)."""
        lists = [[row[column] for row in rows] + [0] * (16 - len(rows)) for column in range(3)]
        count = len(rows) if number is None else number
        self.pinned = [
            struct.pack("<QIIII5Q", sequence, cs, count, regions, sparse, 4 << 20, live, sparse_live, occupied, sparse_occupied)
            + struct.pack("<16I16Q16QQ", *lists[0], *lists[1], *lists[2], sequence if again is None else again)
        ]

    # -- the file ----------------------------------------------------------------------------------

    def _index(self):
        capacity = max(self.index_capacity, 2 * len(self.rows))
        words = [0] * capacity
        for key, ref in self.rows:
            at = key % capacity
            while words[at]:
                at = (at + 1) % capacity
            words[at] = key >> 32 << 32 | ref
        return capacity, struct.pack(f"<{capacity}Q", *words)

    def _live_table(self):
        capacity = max(self.live_capacity, len(self.lives))
        capacity += -capacity % 8
        keys = b"".join(struct.pack("<Q", key) for key, _ in self.lives)
        entries = b"".join(entry for _, entry in self.lives)
        return capacity, keys.ljust(8 * capacity, b"\0") + entries.ljust(32 * capacity, b"\0")

    def bytes(self):
        """Return the file."""
        index_capacity, index = self._index()
        live_capacity, live = self._live_table()
        tables = [
            (1, 1, 0, len(self.modules), 128, b"".join(self.modules)),
            (3, 1, 0, index_capacity, 8, index),
            (5, 1, 0, len(self.threads), 64, b"".join(self.threads)),
            (8, 1, 0, len(self.marks), 832, b"".join(self.marks)),
        ]
        if self.label_sets:
            tables.append((9, 1, 0, 255, 16, self.label_sets))
        for kind, record_bytes, records in ((10, 96, self.pools), (11, 32, self.pool_regions), (12, 104, self.mismatches)):
            if records:
                tables.append((kind, 1, 0, len(records), record_bytes, b"".join(records)))
        for order, records in self.gauges.items():
            tables.append((13, 1, order, 16, 848, b"".join(records).ljust(16 * 848, b"\0")))
        if self.looks:
            tables.append((14, 1, 0, len(self.looks), 184, b"".join(self.looks)))
        if self.pinned:
            tables.append((15, 1, 0, 1, 392, b"".join(self.pinned)))
        tables += [(kind, version, order, 0, 0, payload) for kind, version, order, payload in self.extra_segments]
        body = bytearray()
        directory = b""
        for kind, version, order, capacity, record_bytes, payload in tables:
            directory += struct.pack(
                "<IHHQQII", kind, version, order, 8192 + len(body), len(payload), capacity, record_bytes
            )
            body += payload + bytes(-len(payload) % 16)
        if 8192 + len(body) > self.arena_offset:
            raise ValueError("tables reach into the arena: give fewer rows")
        body += bytes(self.arena_offset - 8192 - len(body)) + self.arena
        directory += struct.pack("<IHHQQII", 4, 1, 0, 8192 + len(body), len(live), live_capacity, 32)
        body += live
        used = 8192 + len(body)
        return self._header(used, len(tables) + 1) + directory.ljust(4096, b"\0") + bytes(body)

    def _header(self, used, segments):
        h = self.header
        page = struct.pack("<8sIIQQQII", MAGIC, h["version"], 4096, used, used, used, segments, h["state"])
        page += struct.pack(
            "<QQIIQQQIIQQ16s64s16s20sI", h["recording_id"], h["run_id"], h["pid"], h["parent_pid"], h["start_ticks"],
            0, h["pid_namespace"], h["uid"], 100, h["start_realtime_ns"], h["start_monotonic_ns"], h["boot_id"],
            h["host"], h["command"], b"\xab" * 20, 20,
        )  # fmt: skip
        page += struct.pack(
            "<QQQQQIIIIIIII", h["requested"], h["effective"], h["sample_bytes"], h["sample_bytes"], h["initial"], 64,
            h["history_unit_cs"], 6, 16, 2, 16 << 20, 64 << 10, 1500,
        )  # fmt: skip
        page += struct.pack("<QQII", h["heartbeat_cs"], h["stopped_at_cs"], self.overflow_row, h["door"])
        page += struct.pack("<64Q", *(self.counters[name] for name in COUNTERS), *([0] * (64 - len(COUNTERS))))
        python = h["python_version"], h["python_state"], h["python_requested"], h["python_effective"]
        page += struct.pack("<IIQQI", *python, h["native_state"])
        page += struct.pack("<IQQQQ", *h["limit"])  # kind, seen at, bytes, used, resident
        page += struct.pack("<QQQII", *h["governor"])  # own cost, budget, changes, widened, state
        page += struct.pack("<I", h["label_state"])
        if h["focus"] is not None:
            texts = [text.encode() for text in h["focus"][:2]]
            words = [number << 32 | _focus_check(text, number) if text else 0 for number, text in zip((4, 2), texts)]
            if texts[0] == texts[1]:
                words[1] = words[0]
            page += struct.pack("<I4Q", 256, *words, h["focus"][2], 5000)
            page += b"".join(text.ljust(256, b"\0") for text in texts)
        return page.ljust(4096, b"\0")


def _focus_check(text, number):
    """FNV-1a of a focus, begun with the number of the change, and once more multiplied."""
    total = 0x811C9DC5 ^ number
    for byte in text:
        total = (total ^ byte) * 0x01000193 & 0xFFFFFFFF
    return total * 0x01000193 & 0xFFFFFFFF
