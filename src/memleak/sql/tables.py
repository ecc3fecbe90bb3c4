"""The rows of each table of `schema.TABLES`."""

from collections.abc import Iterator
from typing import Any, Optional

from .. import config, layout, ledger
from ..gaugerows import gauge_rows
from ..grouping import Source, labels_as_json
from ..mismatches import mismatches as find_mismatches
from ..pools import pools as pool_uses
from ..records import Header
from ..shown import joined
from .content import Content

Values = Iterator[tuple[Any, ...]]

_KNOB_NAMES = {knob: alias for alias, knob in config.ALIASES.items()}


def samples(content: Content) -> Values:
    """Yield the number of each stack of each recording."""
    return zip(range(1, len(content) + 1))


def stacks(content: Content) -> Values:
    """Yield each stack once."""
    for stack_id, number in content.stacks.items():
        row = content.sample(number).group.recorded[0]
        cut = row.truncated or row.python_truncated
        yield number, stack_id, len(row.stack), len(row.python_stack), cut


def frames(content: Content) -> Values:
    """Yield the frames of each stack."""
    for stack_id, number in content.stacks.items():
        for position, (frame, build_id) in enumerate(content.frames(number)):
            kind, function, file, line, module, vaddr, inlined, placed = frame
            yield stack_id, position, kind, function, file, line, module, build_id or None, vaddr, inlined, placed


def history(content: Content) -> Values:
    """Yield the points of each row's history, the oldest first."""
    columns = [content.column(name) for name in ("svr_ip", "svr_port", "mod_name", "labels")]
    for svr_ip, svr_port, mod_name, set_of_labels, stack_id, points in zip(
        *columns, content.stack_ids, content.histories()
    ):
        for at, held in points:
            yield svr_ip, svr_port, stack_id, mod_name, set_of_labels, at, held


def labels(content: Content) -> Values:
    """Yield the labels of each set that a row of a recording was allocated under, or an entry ended under."""
    for source in content.sources:
        calls = source.recording.calls
        for found in sorted({*calls, *source.recording.table.label_sets()}):
            for name, value in found:
                yield *_recording(source), labels_as_json(found), name, value, calls.get(found)


def gauges(content: Content) -> Values:
    """Yield the gauges of each recording."""
    for source in content.sources:
        for row in gauge_rows(source):
            yield (
                *_recording(source), row.name, row.value, row.least, row.greatest, row.first_set, row.last_set,
                row.last_changed, row.from_outside,
            )  # fmt: skip


def gauge_history(content: Content) -> Values:
    """Yield the points of each gauge's history, the oldest first."""
    for source in content.sources:
        for row in gauge_rows(source):
            for moment, value in row.history:
                yield *_recording(source), row.name, moment, value


def modules(content: Content) -> Values:
    """Yield the modules of each recording."""
    for source in content.sources:
        began = source.recording.header.started_at
        for module in source.recording.modules:
            yield (
                *_recording(source), module.id, module.path or None, module.build_id or None, module.is_main,
                module.vaddr_low, module.vaddr_high, began + module.loaded_cs / 100, module.unload_generation,
            )  # fmt: skip


def threads(content: Content) -> Values:
    """Yield the threads of each recording."""
    for source in content.sources:
        began = source.recording.header.started_at
        held: dict[int, list[Any]] = {}
        for _, size, weight, _, thread_id, layer in source.recording.live:
            if layer == layout.LAYER_POOL:
                continue
            sums = held.setdefault(thread_id, [0, 0, 0, 0])
            for at, value in enumerate((1, size, weight / 1024, size * weight / 1024)):
                sums[at] += value
        for thread in source.recording.threads:
            count, size, est_count, est_bytes = held.get(thread.id, [0, 0, 0, 0])
            yield (
                *_recording(source), thread.id, thread.tid, thread.name or None, began + thread.first_cs / 100,
                began + thread.last_cs / 100, thread.samples, count, size, round(est_count), round(est_bytes),
            )  # fmt: skip


def pools(content: Content) -> Values:
    """Yield the pools of each recording."""
    for use in pool_uses(content.sources, content.tracer):
        yield (
            use.svr_ip, use.pid, use.name, use.regions, use.capacity_bytes, use.est_bytes, use.est_bytes_se,
            use.est_bytes_low, use.est_bytes_high, use.est_count, use.samples, use.outside_bytes, use.idle_bytes,
            use.idle_share, use.regions_ended, use.regions_without_samples,
        )  # fmt: skip


def _rounded(number: Optional[float]) -> Optional[int]:
    return None if number is None else round(number)


def mismatches(content: Content) -> Values:
    """Yield the mismatches of each recording, those that are undecided too."""
    for one in find_mismatches(content.sources, content.tracer, undecided=True):
        yield (
            one.svr_ip, one.pid, one.kind, one.what, one.undecided or None, one.allocated.mod_name,
            one.freed_to or None, one.samples, *map(_rounded, (one.est_count, one.est_count_low, one.est_count_high)),
            one.size_bytes, one.freed_bytes, one.first_seen, one.last_seen, one.tid,
            one.allocated.back_trace, one.allocated.mixed_trace or one.allocated.python_trace, one.freed_back_trace,
            joined(one.freed_frames) if content.tracer.can_name else None,
        )  # fmt: skip


def ledger_parts(content: Content) -> Values:
    """Yield the parts of what is resident of each process; none where that is not known."""
    for source in content.sources:
        found = ledger.of(source.recording, alive=source.alive)
        if found is None:
            continue
        for part in found.parts:
            yield (
                *_recording(source), found.at, found.measured, part.name, part.bytes, part.error,
                part.bytes / found.rss_bytes if found.rss_bytes else None, part.how, part.live, part.live_error,
                part.growth,
            )  # fmt: skip


def ledger_history(content: Content) -> Values:
    """Yield the looks at what was resident that each recording keeps, the oldest first."""
    for source in content.sources:
        began = source.recording.header.started_at
        for look in source.recording.ledger:
            told = look.heap_cs > 0
            yield (
                *_recording(source), began + look.cs / 100, look.threads, look.rss_bytes, look.anonymous_bytes,
                look.file_bytes, look.shared_bytes, look.swapped_bytes, look.native_bytes + look.large_bytes,
                look.python_bytes, look.mapped_bytes, look.python_arena_bytes,
                *((look.heap_used_bytes + look.heap_mapped_bytes, look.heap_free_bytes) if told else (None, None)),
            )  # fmt: skip


def parameters(content: Content) -> Values:
    """Yield the knobs of each recording; those that an early core does not have are left out."""
    for source in content.sources:
        header = source.recording.header
        for name, (requested, effective) in _knobs(header).items():
            default = getattr(config.DEFAULTS, name)
            least, greatest = config.RANGES[name]
            yield (*_recording(source), name, _KNOB_NAMES.get(name), requested, effective, default, least, greatest)


def _knobs(header: Header) -> dict[str, tuple[int, int]]:
    found = dict(zip(config.NATIVE_PAIR, zip(header.requested[:2], header.effective[:2])))
    if header.python_requested.max_sample_interval:
        found.update(zip(config.PYTHON_PAIR, zip(header.python_requested[:2], header.python_effective[:2])))
    found["sample_bytes"] = header.requested_sample_bytes, header.effective_sample_bytes
    return found


def _recording(source: Source) -> tuple[Any, Any]:
    return source.svr_ip, source.recording.header.pid
