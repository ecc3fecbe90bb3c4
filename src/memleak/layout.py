"""The layout of a recording as Python sees it: constants, enumerations, record formats.

This mirrors `native/include/memleak_format.h`, which is the only declaration;
`tests/test_format.py` compares the two, field by field. Nothing here reads a file.
"""

import struct
from typing import NamedTuple

MAGIC = 0x31304B41454C4D4D
VERSION = 1
HEADER_BYTES = 4096
DIRECTORY_OFFSET = 4096
DIRECTORY_ENTRIES = 128
ROOM_OFFSET = 8192
REF_BYTES = 16
INTERVAL_MAX = 10000
INTERVAL_OFF = 10000
FOCUS_BYTES = 256
COUNTER_SLOTS = 64
INDEX_WINDOW = 16
FRAME_MODULE_SHIFT = 48
FRAME_EXACT = 1 << 47
FRAME_VADDR_MASK = (1 << 47) - 1
STACK_TRUNCATED = 1
PYTHON_FRAME_CODE_SHIFT = 32
PYTHON_FRAME_ENTRY = 1 << 31
PYTHON_FRAME_OFFSET_MASK = (1 << 31) - 1
PYTHON_FRAME_NOT_BEGUN = PYTHON_FRAME_OFFSET_MASK
PYTHON_NO_FRAME = PYTHON_FRAME_ENTRY | (PYTHON_FRAME_OFFSET_MASK - 1)
CODE_CUT = 1
ROW_OVERFLOW = 1
ROW_PYTHON_LOST = 2
KIND_DOMAIN_SHIFT, KIND_FLAGS_SHIFT = 32, 40  # in the word of a row that begins with its set of labels
HISTORY_LEVELS = 6
HISTORY_SLOTS = 16
HISTORY_LEVEL_SHIFT = 2
HISTORY_UNIT_CS = 400
HISTORY_VALUE_BITS = 40
HISTORY_TAG_MASK = 0xFFFFFF
MODULE_MAIN = 1
MODULE_CORE = 2
MODULE_VDSO = 4
MODULE_GREENLET = 8
LIVE_BUCKET = 8
LIVE_KEY_LIVE = 1 << 63
LIVE_KEY_SEQUENCE_SHIFT = 52
LIVE_KEY_LAYER_SHIFT = 48
LIVE_KEY_ADDRESS_MASK = (1 << 48) - 1
CHECK_1 = 0x9E3779B97F4A7C15
CHECK_2 = 0xC2B2AE3D27D4EB4F
CHECK_3 = 0x165667B19E3779F9
MARKS = 5
MARK_ROWS = 64
LEDGER_LEVELS = 6
LEDGER_SLOTS = 16
LEDGER_LEVEL_SHIFT = 2
LEDGER_UNIT_CS = 1000
PINS_ROWS = 16
PINS_REGION_BYTES = 4 << 20
LABEL_SETS = 255
LABEL_OTHER = 256
LABEL_BYTES = 1000
POOL_DOMAIN = 128
POOL_OTHER = 64
POOL_NAME_BYTES = 64
LIVE_THREAD_MASK = 0xFFF
LIVE_POOL_SHIFT = 12
LIVE_POOL_MASK = 0x7F
LIVE_REGION_SHIFT = 19
MISMATCHES = 64
GAUGES = 64
GAUGES_EACH = 16
GAUGE_NAME_BYTES = 48
GAUGE_MANTISSA_BITS = 33
GAUGE_SIGN_BIT = 39

STATE_OPENING, STATE_RECORDING, STATE_STOPPED, STATE_EXITED = range(4)
(
    PYTHON_NONE,
    PYTHON_FRAMES,
    PYTHON_UNKNOWN_VERSION,
    PYTHON_FREE_THREADED,
    PYTHON_SELF_TEST_FAILED,
    PYTHON_OFF,
) = range(6)
(
    KIND_NONE,
    KIND_MODULES,
    KIND_STACK_INDEX,
    KIND_ROW_INDEX,
    KIND_LIVE,
    KIND_THREADS,
    KIND_CODE_INDEX,
    KIND_PYTHON_STACK_INDEX,
    KIND_MARKS,
    KIND_LABEL_SETS,
    KIND_POOLS,
    KIND_POOL_REGIONS,
    KIND_MISMATCHES,
    KIND_GAUGES,
    KIND_LEDGER,
    KIND_PINS,
) = range(16)
(
    RECORD_STACK,
    RECORD_ROW,
    RECORD_HISTORY,
    RECORD_STRING,
    RECORD_CODE,
    RECORD_PYTHON_STACK,
) = range(1, 7)
NATIVE_SAMPLED, NATIVE_OFF = range(2)
GAUGE_EMPTY, GAUGE_CLAIMED, GAUGE_NAMED = range(3)
LABELS_NONE, LABELS_FOLLOWED, LABELS_SELF_TEST_FAILED = range(3)
GOVERNOR_NONE, GOVERNOR_REQUESTED, GOVERNOR_WIDENED, GOVERNOR_WIDEST = range(4)
BUDGET_PPM = 10_000
BUDGET_PPM_MAX = 1_000_000
LIMIT_NONE, LIMIT_CGROUP, LIMIT_ADDRESS_SPACE, LIMIT_DATA, LIMIT_MACHINE = range(5)
HEAP_NOT_ASKED, HEAP_TOLD, HEAP_CANNOT_TELL, HEAP_OTHER, HEAP_TOO_LONG = range(5)
LINE_TABLE_NONE, LINE_TABLE_LNOTAB, LINE_TABLE_LINES, LINE_TABLE_LOCATIONS = range(4)
DOOR_UNKNOWN, DOOR_PRELOAD, DOOR_IMPORT = range(3)
(
    COVERAGE_UNKNOWN,
    COVERAGE_HOOKED,
    COVERAGE_NONE,
    COVERAGE_ALLOCATOR,
    COVERAGE_OTHER_ALLOCATOR,
    COVERAGE_OTHER_TOOL,
    COVERAGE_PROTECTED,
    COVERAGE_UNBOUND,
    COVERAGE_GONE,
) = range(9)
LAYER_MALLOC, LAYER_OPERATOR_NEW, LAYER_PYMEM, LAYER_POOL, LAYER_MMAP = 1, 2, 3, 4, 6
LAYER_NO_SAMPLE, LAYER_POOL_FREED, LAYER_POOL_GIVEN, LAYER_POOL_REGION = 8, 9, 10, 11
(
    MISMATCH_NONE,
    MISMATCH_POOL_FREE,
    MISMATCH_POOL_POOL,
    MISMATCH_MALLOC_POOL,
    MISMATCH_POOL_SIZE,
    MISMATCH_POOL_TWICE,
    MISMATCH_MALLOC_DELETE,
    MISMATCH_NEW_FREE,
    MISMATCH_NEW_SIZE,
) = range(9)

# Index = enum mlf_domain: what OceanBase's column mod_name says.
DOMAINS = (
    "(unknown)",
    "glibc_malloc",
    "operator_new",
    "pymalloc_obj",
    "pymalloc_mem",
    "pymem_raw",
    "mmap",
)

# Names in the order of their slots, with makes_inexact.
COUNTERS = (
    ("samples", False),
    ("forgotten", False),
    ("stack_full", True),
    ("row_full", True),
    ("live_full", True),
    ("live_race", True),
    ("region_full", True),
    ("address_range", True),
    ("history_full", False),
    ("module_full", False),
    ("thread_full", False),
    ("lost", True),
    ("nested", True),
    ("truncated", False),
    ("unwind_no_cfi", False),
    ("unwind_bad_cfi", False),
    ("unwind_bounds", False),
    ("unwind_foreign_stack", False),
    ("room_grown", False),
    ("room_refused", False),
    ("knobs_rejected", False),
    ("unloads", False),
    ("detached", True),
    ("displaced", True),
    ("code_full", False),
    ("python_full", False),
    ("python_truncated", False),
    ("python_unreadable", False),
    ("copies_failed", False),
    ("python_subinterpreter", False),
    ("label_other", False),
    ("label_full", False),
    ("outcome_missed", False),
    ("pool_other", False),
    ("pool_full", False),
    ("pool_unnoted", False),
    ("mismatches", False),
    ("mismatch_full", False),
    ("gauge_full", False),
    ("thinned", True),
)


# Of those that make inexact: nothing is lost by it, what is left stands for it.
MERGED = "thinned"


class Layout:
    """A structure of the format: field names with their struct codes, all little endian, no padding."""

    def __init__(self, name: str, *fields: tuple[str, str]) -> None:
        """Lay *fields* out one after the other; `_` fields are skipped when reading."""
        self.name = name
        self.offsets: dict[str, int] = {}
        at = 0
        for field, code in fields:
            self.offsets[field] = at
            at += struct.calcsize("<" + code)
        self.codes = dict(fields)
        self.format = struct.Struct("<" + "".join(code for _, code in fields))
        self.bytes = self.format.size


HEADER = Layout(
    "mlf_header",
    ("magic", "Q"),
    ("version", "I"),
    ("header_bytes", "I"),
    ("file_bytes", "Q"),
    ("room_used", "Q"),
    ("room_backed", "Q"),
    ("segment_count", "I"),
    ("state", "I"),
    ("recording_id", "Q"),
    ("run_id", "Q"),
    ("pid", "I"),
    ("parent_pid", "I"),
    ("start_ticks", "Q"),
    ("parent_recording_id", "Q"),
    ("pid_namespace", "Q"),
    ("uid", "I"),
    ("clock_ticks_per_s", "I"),
    ("start_realtime_ns", "Q"),
    ("start_monotonic_ns", "Q"),
    ("boot_id", "16s"),
    ("host_name", "64s"),
    ("command", "16s"),
    ("core_build_id", "20s"),
    ("core_build_id_bytes", "I"),
    ("requested", "Q"),
    ("effective", "Q"),
    ("requested_sample_bytes", "Q"),
    ("effective_sample_bytes", "Q"),
    ("initial", "Q"),
    ("max_frames", "I"),
    ("history_unit_cs", "I"),
    ("history_levels", "I"),
    ("history_slots", "I"),
    ("history_level_shift", "I"),
    ("size_always_bytes", "I"),
    ("mmap_always_bytes", "I"),
    ("sample_cost_ns", "I"),
    ("heartbeat_cs", "Q"),
    ("stopped_at_cs", "Q"),
    ("overflow_row", "I"),
    ("door", "I"),
    ("counters", "512s"),
    ("python_version", "I"),
    ("python_state", "I"),
    ("python_requested", "Q"),
    ("python_effective", "Q"),
    ("native_state", "I"),
    ("limit_kind", "I"),
    ("limit_seen_cs", "Q"),
    ("limit_bytes", "Q"),
    ("limit_used_bytes", "Q"),
    ("rss_bytes", "Q"),
    ("own_cost_ns", "Q"),
    ("budget_ppm", "Q"),
    ("governor_changes", "Q"),
    ("widened_x1024", "I"),
    ("governor_state", "I"),
    ("label_state", "I"),
    ("focus_bytes", "I"),
    ("focus_requested", "Q"),
    ("focus_effective", "Q"),
    ("focus_matched", "Q"),
    ("focus_cost_ns", "Q"),
    ("focus_requested_text", f"{FOCUS_BYTES}s"),
    ("focus_effective_text", f"{FOCUS_BYTES}s"),
)
SEGMENT = Layout(
    "mlf_segment",
    ("kind", "I"),
    ("version", "H"),
    ("order", "H"),
    ("offset", "Q"),
    ("bytes", "Q"),
    ("capacity", "I"),
    ("record_bytes", "I"),
)
RECORD = Layout("mlf_record", ("bytes", "I"), ("kind", "H"), ("version", "H"))
STACK = Layout(
    "mlf_stack", ("record", "8s"), ("key", "Q"), ("frames", "H"), ("flags", "H"), ("reserved", "I")
)
PYTHON_STACK = Layout(
    "mlf_python_stack", ("record", "8s"), ("key", "Q"), ("frames", "H"), ("flags", "H"), ("reserved", "I")
)
CODE = Layout(
    "mlf_code",
    ("record", "8s"),
    ("key", "Q"),
    ("file", "I"),
    ("name", "I"),
    ("first_line", "i"),
    ("line_table", "H"),
    ("flags", "H"),
    ("line_table_bytes", "I"),
    ("reserved", "I"),
)
ROW = Layout(
    "mlf_row",
    ("record", "8s"),
    ("key", "Q"),
    ("native_stack", "I"),
    ("python_stack", "I"),
    ("label_set", "I"),
    ("domain", "B"),
    ("flags", "B"),
    ("reserved0", "H"),
    ("first_cs", "I"),
    ("last_cs", "I"),
    ("history", "I"),
    ("history_tick", "I"),
    ("alloc_samples", "Q"),
    ("freed_samples", "Q"),
    ("alloc_count_x1024", "Q"),
    ("freed_count_x1024", "Q"),
    ("alloc_bytes", "Q"),
    ("freed_bytes", "Q"),
    ("peak_bytes", "Q"),
    ("peak_cs", "I"),
    ("lost_samples", "I"),
    ("moved_count_x1024", "Q"),
    ("moved_bytes", "Q"),
)
HISTORY = Layout("mlf_history", ("record", "8s"), ("reserved", "Q"), ("slot", "768s"))
MODULE = Layout(
    "mlf_module",
    ("state", "I"),
    ("flags", "I"),
    ("path", "I"),
    ("build_id_bytes", "I"),
    ("build_id", "20s"),
    ("loaded_cs", "I"),
    ("vaddr_low", "Q"),
    ("vaddr_high", "Q"),
    ("unload_generation", "Q"),
    ("coverage", "I"),
    ("slots_here", "I"),
    ("slots_elsewhere", "I"),
    ("holder", "I"),
    ("reserved", "48s"),
)
LIVE = Layout(
    "mlf_live",
    ("size_bytes", "Q"),
    ("row", "I"),
    ("weight_x1024", "I"),
    ("born_cs", "I"),
    ("thread", "I"),
    ("check", "I"),
    ("uses", "I"),
)
THREAD = Layout(
    "mlf_thread",
    ("state", "I"),
    ("tid", "I"),
    ("first_cs", "I"),
    ("last_cs", "I"),
    ("samples", "Q"),
    ("name", "16s"),
    ("last_row", "I"),
    ("reserved0", "I"),
    ("reserved", "16s"),
)
LABEL_SET = Layout("mlf_label_set", ("text", "I"), ("reserved", "I"), ("calls", "Q"))
POOL = Layout(
    "mlf_pool",
    ("state", "I"),
    ("regions", "I"),
    ("capacity_bytes", "Q"),
    ("regions_ended", "Q"),
    ("reserved", "Q"),
    ("name", "64s"),
)
POOL_REGION = Layout("mlf_pool_region", ("pool", "I"), ("begun_cs", "I"), ("bytes", "Q"), ("reserved", "16s"))
MISMATCH = Layout(
    "mlf_mismatch",
    ("state", "I"),
    ("kind", "I"),
    ("key", "Q"),
    ("row", "I"),
    ("native_stack", "I"),
    ("python_stack", "I"),
    ("freed_pool", "I"),
    ("thread", "I"),
    ("first_cs", "I"),
    ("last_cs", "I"),
    ("reserved0", "I"),
    ("size_bytes", "Q"),
    ("freed_bytes", "Q"),
    ("count", "Q"),
    ("count_x1024", "Q"),
    ("target", "Q"),
    ("reserved", "16s"),
)
MARK = Layout(
    "mlf_mark",
    ("sequence", "Q"),
    ("cs", "I"),
    ("level_percent", "I"),
    ("limit_kind", "I"),
    ("rows", "I"),
    ("limit_bytes", "Q"),
    ("used_bytes", "Q"),
    ("rss_bytes", "Q"),
    ("live_bytes", "Q"),
    ("row", f"{4 * MARK_ROWS}s"),
    ("row_bytes", f"{8 * MARK_ROWS}s"),
    ("sequence_again", "Q"),
)
GAUGE = Layout(
    "mlf_gauge",
    ("state", "I"),
    ("name_bytes", "I"),
    ("name", f"{GAUGE_NAME_BYTES}s"),
    ("value", "q"),
    ("first_cs", "I"),
    ("set_cs", "I"),
    ("changed_cs", "I"),
    ("tick", "I"),
    ("slot", "768s"),
)
LEDGER = Layout(
    "mlf_ledger",
    ("sequence", "Q"),
    ("cs", "I"),
    ("threads", "I"),
    ("anonymous_bytes", "Q"),
    ("file_bytes", "Q"),
    ("shared_bytes", "Q"),
    ("swapped_bytes", "Q"),
    ("locked_bytes", "Q"),
    ("page_table_bytes", "Q"),
    ("native_bytes", "Q"),
    ("large_bytes", "Q"),
    ("python_bytes", "Q"),
    ("mapped_bytes", "Q"),
    ("python_arena_bytes", "Q"),
    ("own_bytes", "Q"),
    ("heap_state", "I"),
    ("heap_cs", "I"),
    ("heap_us", "I"),
    ("reserved0", "I"),
    ("heap_bytes", "Q"),
    ("heap_used_bytes", "Q"),
    ("heap_free_bytes", "Q"),
    ("heap_fast_bytes", "Q"),
    ("heap_top_bytes", "Q"),
    ("heap_mapped_bytes", "Q"),
    ("sequence_again", "Q"),
)
PINS = Layout(
    "mlf_pins",
    ("sequence", "Q"),
    ("cs", "I"),
    ("rows", "I"),
    ("regions", "I"),
    ("sparse_regions", "I"),
    ("region_bytes", "Q"),
    ("live_bytes", "Q"),
    ("sparse_bytes", "Q"),
    ("occupied_bytes", "Q"),
    ("sparse_occupied_bytes", "Q"),
    ("row", f"{4 * PINS_ROWS}s"),
    ("row_live_bytes", f"{8 * PINS_ROWS}s"),
    ("row_pinned_bytes", f"{8 * PINS_ROWS}s"),
    ("sequence_again", "Q"),
)
STRUCTURES = (
    HEADER, SEGMENT, RECORD, STACK, PYTHON_STACK, CODE, ROW, HISTORY, MODULE, LIVE, THREAD, LABEL_SET, POOL,
    POOL_REGION, MISMATCH, MARK, GAUGE, LEDGER, PINS,
)  # fmt: skip


class IntervalWord(NamedTuple):
    """One packed knob word: the pair of intervals and the epoch that numbers its changes."""

    min_sample_interval: int
    max_sample_interval: int
    epoch: int

    @classmethod
    def unpack(cls, word: int) -> "IntervalWord":
        """Take a word of the header apart."""
        return cls(word & 0xFFFF, word >> 16 & 0xFFFF, word >> 32 & 0xFFFFFFFF)

    def pack(self) -> int:
        """Return the word for the header."""
        return self.min_sample_interval | self.max_sample_interval << 16 | (self.epoch & 0xFFFFFFFF) << 32

    @property
    def mode(self) -> str:
        """The mode the pair means: off, normal or full."""
        if self.min_sample_interval >= INTERVAL_OFF:
            return "off"
        return "full" if self[:2] == (1, 1) else "normal"


def focus_check(text: bytes, number: int) -> int:
    """Return the check in the word of a focus, as the core computes it."""
    total = 0x811C9DC5 ^ number
    for byte in text:
        total = (total ^ byte) * 0x01000193 & 0xFFFFFFFF
    return total * 0x01000193 & 0xFFFFFFFF


def live_check(key: int, size_bytes: int, row: int, weight_x1024: int, born_cs: int, thread: int) -> int:
    """Return the check word of a live entry, as the core computes it."""
    total = (
        key
        + size_bytes * CHECK_1
        + (row << 32 | weight_x1024) * CHECK_2
        + (born_cs << 32 | thread) * CHECK_3
    )
    return (total >> 32 ^ total) & 0xFFFFFFFF
