"""The core library, and the only module that uses cffi.

Nothing here is loaded until it is asked for: reading a recording needs no core. Only bytes, text
and numbers come out, never cffi's objects. Every function but `library_path` loads the core when it
is not yet in the process, and raises `CoreError` when that cannot be done.
"""

from __future__ import annotations

import os

from .errors import CoreError
from .names import LIBRARY

TYPE_CHECKING = False  # start() loads this module, and typing takes milliseconds to import
if TYPE_CHECKING:
    from typing import Any


# What state() returns.
IDLE, RECORDING, STOPPED, FORKED = range(4)

_loaded: Any = None


def library_path() -> str:
    """Return the path of libmemleak.so, which stands beside the cffi module; load nothing.

    Raises:
        CoreError: this installation has none.
    """
    from importlib.machinery import EXTENSION_SUFFIXES
    from importlib.util import find_spec

    spec = find_spec("memleak._memleak_ffi")
    if spec is None or spec.origin is None:
        where = os.path.dirname(os.path.abspath(__file__))
        raise CoreError(
            f"{where}: no _memleak_ffi{EXTENSION_SUFFIXES[0]} and so no {LIBRARY};"
            " this copy only reads recordings: install the memleak package"
        )
    path = os.path.join(os.path.dirname(os.path.abspath(spec.origin)), LIBRARY)
    if not os.path.exists(path):
        raise CoreError(f"{path}: no such file; reinstall the memleak package")
    return path


def build_id() -> str:
    """Return the build id of the core in this process, in hexadecimal."""
    return _text(_core().memleak_build_id())


def start(
    min_sample_interval: int,
    max_sample_interval: int,
    python_min_sample_interval: int,
    python_max_sample_interval: int,
    sample_bytes: int,
    max_frames: int,
    python: bool,
    native: bool,
) -> int:
    """Switch tracing on: 0 started, 1 it was on already and nothing changed, -1 not started; `why` tells."""
    pair = min_sample_interval, max_sample_interval
    of_python = python_min_sample_interval, python_max_sample_interval
    return int(_core().memleak_start(*pair, *of_python, sample_bytes, max_frames, python, native))


def set_budget(budget_ppm: int) -> bool:
    """Bound what sampling may cost, in millionths of the CPU time used; tell whether this process is being recorded."""
    return int(_core().memleak_set_budget(budget_ppm)) == 0


def set_focus(focus: str) -> bool:
    """Record all of a part, empty for none; False: the core does not take it, or nothing is being recorded."""
    return int(_core().memleak_set_focus(focus.encode("utf-8", "surrogateescape"))) == 0


def stop() -> bool:
    """Freeze the recording; tell whether there was one to freeze."""
    return bool(_core().memleak_stop())


def configure(
    min_sample_interval: int,
    max_sample_interval: int,
    python_min_sample_interval: int,
    python_max_sample_interval: int,
    sample_bytes: int,
) -> bool:
    """Ask for other knobs; False: out of range, or nothing is being recorded."""
    native = min_sample_interval, max_sample_interval
    of_python = python_min_sample_interval, python_max_sample_interval
    return int(_core().memleak_configure(*native, *of_python, sample_bytes)) == 0


def state() -> int:
    """Return IDLE, RECORDING, STOPPED or FORKED (a child that has not opened its own recording)."""
    return int(_core().memleak_state())


def why() -> str:
    """Return why the last start failed, or what is amiss although it did not; empty when nothing is."""
    return _text(_core().memleak_why())


def is_preloaded() -> bool:
    """Tell whether the core was preloaded; False: an import brought it."""
    return bool(_core().memleak_is_preloaded())


def is_recording() -> bool:
    """Tell whether the core in this process is recording."""
    return bool(_core().memleak_is_recording())


def recording_path() -> str | None:
    """Return the path of this process's last recording; None while there is none, or it has no file."""
    path = _core().memleak_recording_path()
    return _text(path) or None


def recording_memory(most: int | None = None) -> bytes:
    """Return a copy of this process's last recording as it stands in memory; empty while there is none.

    Args:
        most: how many bytes at most, from its beginning; None for all.
    """
    view = _recording_view()
    return bytes(view[:most]) if view is not None else b""


def write_recording(fd: int) -> None:
    """Write this process's last recording as it stands in memory to an open file; nothing while there is none.

    This thread allocates nothing meanwhile: as far as it goes, what is written is of one moment.

    Raises:
        OSError: it cannot be written.
    """
    view = _recording_view()
    if view is not None:
        with memoryview(view) as rest:
            written = 0
            while written < len(rest):
                written += os.write(fd, rest[written:])


def recording_view() -> memoryview:
    """Return this process's last recording as it stands in memory, not copied; empty while there is none."""
    view = _recording_view()
    return memoryview(view).toreadonly() if view is not None else memoryview(b"")


def row_at(address: int) -> int:
    """Return the reference of the row of the live sample at an address; 0: there is none, or nothing is recorded."""
    return int(_core().memleak_row_at(address))


def held() -> tuple[int, int]:
    """Return the estimated live bytes of all that is recorded and their peak; 0, 0 while nothing is."""
    core = _core()  # nothing is allocated before the first number is known
    return int(core.memleak_held()), int(core.memleak_held_peak())


def reset_peak() -> None:
    """Let the peak count from now on."""
    _core().memleak_reset_peak()


def malloc_in_use() -> int | None:
    """Return the bytes in use as the C library counts them, its overhead included; None if it cannot tell."""
    found = int(_core().memleak_malloc_in_use())
    return None if found < 0 else found


def poll() -> None:
    """Let the core do its cold chores now: notice objects, back pages, name threads, open a child's recording."""
    _core().memleak_poll()


def set_aside(aside: bool) -> bool:
    """Leave what this thread allocates out of the recording, or take it in again; return whether it was left out.

    Nothing if the core is not loaded.
    """
    return bool(_loaded.lib.memleak_set_aside(aside)) if _loaded is not None else False


def is_loaded() -> bool:
    """Tell whether this module has met the core."""
    return _loaded is not None


def is_here() -> bool:
    """Tell whether the core is in this process, however it came; load nothing but the module that speaks to it."""
    if _loaded is not None:
        return True
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            here = any(line.rstrip("\n").endswith("/" + LIBRARY) for line in maps)
        return here and _module() is not None
    except (OSError, CoreError):
        return False


def label_number(text: str) -> int:
    """Return the number of a set of labels, given as lines name=value."""
    return int(_core().memleak_label_number(text.encode("utf-8", "replace")))


def pool(name: str) -> int:
    """Return the number of the pool with this name."""
    return int(_core().memleak_pool(name.encode("utf-8", "replace")))


def pool_alloc(pool: int, address: int, size: int) -> None:
    """Note that a pool has given out a block."""
    module = _module()
    module.lib.memleak_pool_alloc(pool, module.ffi.cast("void *", address), size)


def pool_free(pool: int, address: int, size: int | None) -> None:
    """Note that a block is about to be freed to a pool; *size* is what its caller says of it."""
    module = _module()
    block = module.ffi.cast("void *", address)
    if size is None:
        module.lib.memleak_pool_free(pool, block)
    else:
        module.lib.memleak_pool_free_sized(pool, block, size)


def pool_resize(pool: int, old: int, address: int, size: int) -> None:
    """Note that a block of a pool has another size, and perhaps another place."""
    module = _module()
    module.lib.memleak_pool_resize(pool, module.ffi.cast("void *", old), module.ffi.cast("void *", address), size)


def pool_region(pool: int, base: int, size: int) -> bool:
    """Note memory that a pool hands out in pieces; False: there is no such range."""
    module = _module()
    return int(module.lib.memleak_pool_region(pool, module.ffi.cast("void *", base), size)) == 0


def pool_region_end(pool: int, base: int) -> bool:
    """Note that a pool does so no longer; False: it has no region that begins there."""
    module = _module()
    return int(module.lib.memleak_pool_region_end(pool, module.ffi.cast("void *", base))) == 0


def gauge(name: str) -> int:
    """Return the number of a gauge; 0: it has none."""
    return int(_core().memleak_gauge(name.encode("ascii", "replace")))


def gauge_set(number: int, value: int) -> None:
    """Set a gauge that `gauge` gave the number of."""
    _loaded.lib.memleak_gauge_set(number, value)


def gauge_add(number: int, more: int) -> None:
    """Add to one."""
    _loaded.lib.memleak_gauge_add(number, more)


def gauge_value(number: int) -> int | None:
    """Return the value of a gauge; None: this process has not set it."""
    module = _module()
    value = module.ffi.new("long long *")
    return int(value[0]) if module.lib.memleak_gauge_value(number, value) else None


def label_follow(variable: object, kind: type, number_offset: int, expected: int) -> int:
    """Let the core read the number in force from a context variable; see `memleak_label_follow` in memleak.h."""
    module = _module()
    addresses = [module.ffi.cast("void *", id(thing)) for thing in (variable, kind)]
    return int(module.lib.memleak_label_follow(addresses[0], hash(variable), addresses[1], number_offset, expected))


def label_outcome(entry: int, began: int, number: int, outcome: str) -> int:
    """Move what is live of an entry under set *number* to the same labels with that outcome; return their number."""
    return int(_core().memleak_label_outcome(entry, began, number, outcome.encode("utf-8", "replace")))


def label_addresses() -> tuple[int, int]:
    """Return where the core counts the samples it notes under entries, and the address of `memleak_label_left`."""
    module = _module()
    cast = module.ffi.cast
    counter, function = module.lib.memleak_label_notes(), module.ffi.addressof(module.lib, "memleak_label_left")
    return int(cast("uintptr_t", counter)), int(cast("uintptr_t", function))


def _core() -> Any:
    """Return the core's functions."""
    return _module().lib


def _module() -> Any:
    """Return the cffi module after checking that the core in this process is the one it was built with."""
    global _loaded
    if _loaded is None:
        try:
            from . import _memleak_ffi as module
        except ImportError as error:
            raise CoreError(f"loading {LIBRARY}: {error}; reinstall the memleak package") from error
        lib, text = module.lib, module.ffi.string
        found, expected = text(lib.memleak_build_id()).decode(), text(lib.memleak_expected_build_id()).decode()
        if lib.memleak_abi_version() != lib.MEMLEAK_ABI_VERSION or found != expected:
            # Typical: LD_PRELOAD names the core of another installation, and the loader keeps one.
            raise CoreError(
                f"{LIBRARY} in this process has ABI {lib.memleak_abi_version()}, build {found}, this package needs ABI"
                f" {lib.MEMLEAK_ABI_VERSION}, build {expected}; preload {LIBRARY} of this installation, or none"
            )
        _loaded = module
    return _loaded


def _recording_view() -> Any:
    """Return cffi's view of the recording's memory; None while there is none. The memory stays for good."""
    module = _module()
    length = module.ffi.new("unsigned long long *")
    address = module.lib.memleak_recording_memory(length)
    return module.ffi.buffer(address, length[0]) if address else None


def _text(pointer: Any) -> str:
    return os.fsdecode(_module().ffi.string(pointer)) if pointer else ""
