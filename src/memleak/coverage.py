"""Coverage: which loaded objects' allocations come by, and which are out of reach, and why.

A recording says what the core found when it last looked. Of a running process, `/proc` shows more:
objects that came since, objects in other link namespaces, and allocators linked into an object.
"""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

from . import layout, loaded
from .loaded import LoadedObject
from .names import LIBRARY
from .recording import Recording
from .records import Module
from .units import size

NAMESPACE = "namespace"
OWN_ALLOCATOR = "own_allocator"
_SHOWN = 3  # objects out of reach in one sentence

# enum mlf_coverage, what is out of reach -> reason.
_REASONS = {
    layout.COVERAGE_ALLOCATOR: "allocator",
    layout.COVERAGE_OTHER_ALLOCATOR: "other_allocator",
    layout.COVERAGE_OTHER_TOOL: "other_tool",
    layout.COVERAGE_PROTECTED: "protected",
    layout.COVERAGE_UNBOUND: "unbound",
}
# reason -> in two words, in a sentence.
_WORDS = {
    "allocator": ("own allocator", "an allocator of its own, not the one the process uses"),
    "other_allocator": ("RTLD_DEEPBIND", "bound to another allocator (RTLD_DEEPBIND)"),
    "other_tool": ("another tracer", "another tracer's hooks are in place"),
    "protected": ("write-protected", "the kernel refused to change the protection of the addresses it calls"),
    "unbound": ("not yet bound", "the loader has not yet bound its calls, and has several allocators to choose from"),
    NAMESPACE: ("dlmopen", "loaded in another link namespace (dlmopen)"),
    OWN_ALLOCATOR: ("own allocator", "an allocator of its own, statically linked"),
}


class OutOfReach(NamedTuple):
    """A loaded object whose allocations are not seen, or not all of them.

    `reason` is allocator, other_allocator, other_tool, protected, unbound, namespace, own_allocator, or
    `coverage N` for a number that only a later core knows. `slots_*` count the places where it keeps the address
    of an allocation function: those that lead to our hooks, and those that lead elsewhere, as to `holder`.
    `defines` names allocator functions of its own.
    """

    path: str
    reason: str
    holder: Optional[str]
    slots_here: int
    slots_elsewhere: int
    mapped_bytes: int
    defines: tuple[str, ...] = ()

    @property
    def brief(self) -> str:
        """Its file's name, its size and the reason in two words."""
        words = _WORDS.get(self.reason, (self.reason,))[0]
        return f"{os.path.basename(self.path)} ({size(self.mapped_bytes)}, {words})"

    def __str__(self) -> str:
        """Say in one line what it is and why it is out of reach."""
        words = _WORDS.get(self.reason, ("", f"{self.reason}, which a later memleak explains"))[1]
        if self.holder:
            words += f": {os.path.basename(self.holder)}"
        if self.defines:
            words += f" ({', '.join(self.defines)})"
        if self.slots_here and self.slots_elsewhere:
            words += f"; {self.slots_here} of {self.slots_here + self.slots_elsewhere} addresses it calls are hooked"
        return f"{self.path} ({size(self.mapped_bytes)} mapped): {words}"


class Coverage(NamedTuple):
    """What is seen of a process. An object counts once; the core itself and the vdso do not.

    Attributes:
        known: whether the recording says anything about hooks: an early core did not.
        objects: how many loaded objects were looked at.
        hooked: of these, those whose allocations all come by.
        out_of_reach: of these, those whose allocations do not, or not all, the largest first. The rest call no
            allocation function.
        not_looked_at: paths of further objects, loaded since the core last looked.
        estimated_live_bytes: sum over the live samples.
        anonymous_bytes: memory of the process that is in RAM and belongs to no file; None when not known.
    """

    known: bool
    objects: int
    hooked: int
    out_of_reach: tuple[OutOfReach, ...]
    not_looked_at: tuple[str, ...]
    estimated_live_bytes: int
    anonymous_bytes: Optional[int]

    def summary(self) -> str:
        """Return the counts and the sums in one line."""
        sums = f"estimated live {size(self.estimated_live_bytes)}"
        if self.anonymous_bytes is not None:
            sums += f", anonymous memory {size(self.anonymous_bytes)}"
        counts = sentence([self], shown=0) or "it was not recorded which objects are hooked"
        return f"{counts}; {sums}"

    def text(self) -> str:
        """Return `summary`, then a line for each object out of reach, then those not looked at."""
        lines = [self.summary(), *map(str, self.out_of_reach)]
        if self.known and self.not_looked_at:
            lines.append(f"not looked at yet: {', '.join(self.not_looked_at)}")
        return "\n".join(lines)


def of(recording: Recording, pid: Optional[int] = None) -> Coverage:
    """Return the coverage of one recording.

    Args:
        recording: what the core wrote.
        pid: its process, if that runs; then `/proc` is asked too, as far as that is permitted.
    """
    survey = _Survey(recording)
    if pid is not None:
        survey.look(pid)
    return survey.result(None if pid is None else loaded.anonymous_bytes(pid))


def own_allocators(pid: int) -> list[OutOfReach]:
    """Return the objects of a process that carry an allocator of their own, recorded or not. Raises OSError."""
    found = []
    for each in loaded.look(pid).objects:
        defines = _defines(pid, each, is_main=_is_program(pid, each))
        if defines:
            found.append(OutOfReach(each.path, OWN_ALLOCATOR, None, 0, 0, each.mapped_bytes, defines))
    return sorted(found, key=_order)


def sentence(parts: Sequence[Coverage], *, shown: int = _SHOWN) -> str:
    """Return the coverage of some recordings in one line, without the sums; empty if nothing is known of any.

    Args:
        parts: one for each recording.
        shown: how many objects out of reach are named; the others are counted.
    """
    parts = [part for part in parts if part.known]
    if not parts:
        return ""
    hooked = sum(part.hooked for part in parts)
    out = {(found.path, found.reason): found for part in parts for found in part.out_of_reach}
    allocating = hooked + sum(len(part.out_of_reach) for part in parts)
    words = f"{hooked} of {allocating} allocating objects"
    if len(parts) > 1:
        words += f" in {len(parts)} recordings"
    if out and shown:
        ordered = sorted(out.values(), key=_order)
        words += f"; out of reach: {', '.join(found.brief for found in ordered[:shown])}"
        words += f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    waiting = sum(len(part.not_looked_at) for part in parts)
    return words + (f"; {waiting} not looked at yet" if waiting else "")


class _Survey:
    """The objects of one process, each in the one place it belongs."""

    def __init__(self, recording: Recording) -> None:
        """Take over what the recording says."""
        self._recording = recording
        self._hooked: set[int] = set()
        self._idle: set[int] = set()
        self._out: dict[int, OutOfReach] = {}  # by module id, as the others
        self._waiting: dict[int, str] = {}
        self._further: list[OutOfReach] = []  # not in the recording
        self._fresh: list[str] = []
        for module in recording.modules:
            if module.flags & (layout.MODULE_CORE | layout.MODULE_VDSO) or module.coverage == layout.COVERAGE_GONE:
                continue
            if module.coverage == layout.COVERAGE_HOOKED:
                self._hooked.add(module.id)
            elif module.coverage == layout.COVERAGE_NONE:
                self._idle.add(module.id)
            elif module.coverage != layout.COVERAGE_UNKNOWN:
                reason = _REASONS.get(module.coverage, f"coverage {module.coverage}")
                holder = recording.module(module.holder).path or None
                self._put_out(module, OutOfReach(_name(module), reason, holder, 0, 0, 0))
            elif module.path:
                self._waiting[module.id] = module.path
        self._known = bool(self._hooked or self._idle or self._out)

    def _put_out(self, module: Module, found: OutOfReach) -> None:
        for places in (self._hooked, self._idle):
            places.discard(module.id)
        self._waiting.pop(module.id, None)
        self._out[module.id] = found._replace(
            slots_here=module.slots_here,
            slots_elsewhere=module.slots_elsewhere,
            mapped_bytes=max(0, module.vaddr_high - module.vaddr_low) or found.mapped_bytes,
        )

    def look(self, pid: int) -> None:
        """Add what only a look at the running process shows."""
        try:
            present = loaded.look(pid)
        except OSError:
            return
        modules = _modules_of(present.objects, self._recording.modules, pid)
        for found, known in zip(present.objects, modules):
            if _is_elsewhere(pid, found, present):
                self._further.append(OutOfReach(found.path, NAMESPACE, None, 0, 0, found.mapped_bytes))
                if not found.again:
                    for module in known:  # recorded because a stack led through it
                        self._waiting.pop(module.id, None)
                continue
            current = [module for module in known if module.coverage != layout.COVERAGE_GONE]
            if not current:
                if _is_fresh(pid, found, present):
                    self._fresh.append(found.path)
            elif current[-1].id not in self._out and not current[-1].flags & layout.MODULE_CORE:
                defines = _defines(pid, found, is_main=current[-1].is_main)
                if defines:
                    own = OutOfReach(found.path, OWN_ALLOCATOR, None, 0, 0, found.mapped_bytes, defines)
                    self._put_out(current[-1], own)

    def result(self, anonymous_bytes: Optional[int]) -> Coverage:
        """Return what was found."""
        out = [*self._out.values(), *self._further]
        return Coverage(
            known=self._known,
            objects=len(self._hooked) + len(self._idle) + len(out),
            hooked=len(self._hooked),
            out_of_reach=tuple(sorted(out, key=_order)),
            not_looked_at=tuple(dict.fromkeys([*self._waiting.values(), *self._fresh])),
            estimated_live_bytes=round(self._recording.total_est_bytes),
            anonymous_bytes=anonymous_bytes,
        )


def _order(found: OutOfReach) -> tuple[int, str, str]:
    return -found.mapped_bytes, found.path, found.reason


def _name(module: Module) -> str:
    return module.path or f"(object {module.id})"


def _modules_of(objects: Sequence[LoadedObject], modules: Iterable[Module], pid: int) -> list[list[Module]]:
    """Return, for each object, the modules of a recording that are of the same file."""
    same_root = _same_root(pid)
    by_path: dict[str, list[Module]] = {}
    by_file_name: dict[str, list[Module]] = {}
    for module in modules:
        if module.path:
            for path in {module.path, os.path.realpath(module.path) if same_root else module.path}:
                by_path.setdefault(path, []).append(module)
            by_file_name.setdefault(os.path.basename(module.path), []).append(module)
    found = [by_path.get(each.name, []) or by_path.get(each.path, []) for each in objects]
    # The loader keeps a name as it was asked for, perhaps through a link, and perhaps from another root.
    taken = {module.id for known in found for module in known}
    for index, each in enumerate(objects):
        if not found[index]:
            names = {os.path.basename(each.path), os.path.basename(each.name)}
            alike = [module for name in sorted(names) for module in by_file_name.get(name, [])]
            found[index] = [module for module in alike if module.id not in taken]
    return found


def _same_root(pid: int) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))
    except OSError:
        return False


def _is_elsewhere(pid: int, found: LoadedObject, present: loaded.Loaded) -> bool:
    """Tell whether an object stands in a link namespace that is not the program's own."""
    if found.namespace is not None:
        return found.namespace > 0
    # The loader loads a file once in each namespace. What is loaded a second time did not come alone: where the
    # program's own namespace is known and no other, whatever is not in it belongs to that.
    return (found.again or (present.namespaces == 1 and _has_again(pid, present))) and loaded.is_elf(pid, found)


def _has_again(pid: int, present: loaded.Loaded) -> bool:
    return any(each.again and each.namespace is None and loaded.is_elf(pid, each) for each in present.objects)


def _is_fresh(pid: int, found: LoadedObject, present: loaded.Loaded) -> bool:
    """Tell whether an object that the recording does not know was loaded since the core last looked."""
    if os.path.basename(found.path) == LIBRARY:
        return False
    return found.namespace == 0 if present.namespaces else loaded.is_elf(pid, found)


def _defines(pid: int, found: LoadedObject, *, is_main: bool) -> tuple[str, ...]:
    """Return which allocator functions an object has for itself.

    One that defines malloc for everybody is what our hooks stand in front of, unless it is the
    program: its own calls then lead straight to it.
    """
    if loaded.is_libc(found.path) or os.path.basename(found.path) == LIBRARY:
        return ()
    names = loaded.allocators_in(pid, found)
    return names if is_main or "malloc" not in names else ()


def _is_program(pid: int, found: LoadedObject) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/exe") == found.path
    except OSError:
        return False
