"""Say on whose behalf code allocates: `with label(tenant_id=7): …`.

The labels in force are one context variable, so they follow asyncio tasks, greenlets and copied contexts as any
does. Its value is a `Scope` (native/scopes/scopes.c, which enters and leaves), whose number the core reads from the
thread's own memory when it takes a sample (native/src/pylabel.c); setting the variable is most of what entering and
leaving a label costs. Nothing here fails: what cannot be labelled runs without.
"""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar

from . import _native
from .errors import CoreError

try:
    from . import _scopes
except ImportError as error:
    raise CoreError(f"loading labels: {error}; this copy only reads recordings: install the memleak package") from error

TYPE_CHECKING = False  # session loads this module, and typing takes milliseconds to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

OTHER = 256  # number of all sets beyond the 255 that have one
VALUE_CHARACTERS = 200  # longer values are cut
_SCOPES_MOST = 1024  # kept for their next use
_COROUTINE = 0x80  # in co_flags
_PROBE = 200
_OUTCOMES_MOST = 32  # names of exceptions; what comes after is `error`


_ROOT = _scopes.Scope(None, {}, 0, True)
_current: ContextVar[_scopes.Scope] = ContextVar("memleak_labels", default=_ROOT)
_get, _set = _current.get, _current.set

_following = False  # the core reads the variable
_installed = False  # threads inherit
_full = False  # there are no more numbers
_numbers: dict[tuple[tuple[str, str], ...], int] = {}
_kept = 0
_outcomes: set[str] = set()
_tries = 16  # to follow, at labels that are met first; each start tries, too


class label(_scopes.Label):
    """Put what a block, a function or a coroutine allocates under labels: a context manager, and a decorator.

    Labels inside others add to them; of the same name the inner one holds. They hold for what runs in the block:
    awaited coroutines, tasks and threads started in it, functions handed to executors, and C code that these call,
    with the GIL or without. A label object may be used again, also by several threads and tasks at a time.

    Each set of labels that is ever in force takes one of 255 numbers of the process; what comes after is counted
    under the label `other`. So label by what is few: a tenant, a route, the shape of a statement; not by request.

    As a decorator of a generator function it would cover only the making of the generator: write ``with`` inside, and
    remember that the label also holds for who consumes it, until the block is left.

    With ``outcome=True`` each entry ends with an outcome. While the block runs, what it allocates is under
    `outcome=ok`; if an exception leaves it, what is live of that moves to `outcome=` and the name of the exception's
    type. That is what this entry took, not what others hold under the same labels. The end of a generator or of an
    iteration (GeneratorExit, StopIteration, StopAsyncIteration) is no failure.

    Args:
        labels: any names. `tenant_id`, `ctx` and `mod` also show in OceanBase's columns, `sql` is what
            `memleak.integrations` sets. A value is written as text, at most 200 characters of it. Values that are
            equal, as 1 and True are, are one. None: not given. `outcome`: True as above; False: not given; another
            value is a label like any.

    Raises:
        TypeError: something was given without a name.
    """

    __slots__ = ()

    def __call__(self, function: Function) -> Function:
        """Return *function* wrapped: what each of its calls allocates is under the labels."""
        from functools import wraps

        if getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE:

            @wraps(function)
            async def labelled(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)
        else:

            @wraps(function)
            def labelled(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return function(*args, **kwargs)

        return labelled  # type: ignore[return-value]

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes one of the same labels, for copies and pickle."""
        given = {**(self._given or {}), **({"outcome": True} if self._judges else {})}
        return _again, (type(self), given), getattr(self, "__dict__", None)


def _again(kind: type[label], given: dict[str, object]) -> label:
    """Return a label of a type derived from `label`, whatever its __init__() takes."""
    made = kind.__new__(kind)
    _scopes.Label.__init__(made, **given)
    return made


def current() -> dict[str, str]:
    """Return the labels in force here, as text."""
    return dict(_get().labels)


def follow() -> None:
    """Let the core follow the labels if it is in this process and some were set; called when tracing begins."""
    global _following
    if _following or not _installed:
        return
    try:
        _following = Context().run(_teach) == 1
    except CoreError:
        return
    if _following:
        _scopes.join(*_native.label_addresses())
        _number_all()


# -- scopes ------------------------------------------------------------------------------------------


def _find(outer: _scopes.Scope, given: dict[str, object]) -> _scopes.Scope:
    """Return the scope of these labels within *outer*, which is no entry."""
    try:
        return outer.inner[tuple(given.items())]  # type: ignore[index]
    except Exception:  # not there, not hashable, or something of the program's own in its hash
        return _inner(outer, given)


def _inner(outer: _scopes.Scope, given: dict[str, object]) -> _scopes.Scope:
    """Return a new scope of labels within *outer*, kept for the next time if it may be."""
    global _kept, _tries
    if not _installed:
        _install()
        if _native.is_here():
            follow()
    elif not _following and _tries and _native.is_loaded():
        _tries -= 1
        follow()
    labels = dict(outer.labels)
    for name, value in given.items():
        if value is not None:
            labels[_text(name).replace("=", "_")] = _text(value)
    if labels == outer.labels:
        labels = outer.labels  # one dict for a chain of the same
    number = _number(labels)  # first: another thread may find the scope as soon as it is kept
    scope = _scopes.Scope(outer, labels, number, outer.inner is not None and _kept < _SCOPES_MOST)
    if scope.inner is not None:
        try:
            outer.inner[tuple(given.items())] = scope  # type: ignore[index]
            _kept += 1
        except Exception:  # as in _find()
            scope.inner = None
    if not number:  # began to follow meanwhile: _number_all() passes by those that were kept by then
        scope.number = _number(labels)
    return scope


def _text(value: object) -> str:
    try:
        text = str(value)[:VALUE_CHARACTERS]
    except Exception:  # of the program's own
        return "?"
    return text if text.isprintable() else "".join([char if char.isprintable() else " " for char in text])


def _number(labels: dict[str, str]) -> int:
    """Return the number of a set of labels; 0 while nothing follows."""
    global _full
    if not _following or not labels:
        return 0
    key = tuple(sorted(labels.items()))
    number = _numbers.get(key)
    if number is None:
        number = OTHER if _full else _native.label_number("\n".join([f"{name}={value}" for name, value in key]))
        if number < OTHER:
            _numbers[key] = number
        else:
            _full = True
    return number


def _number_all() -> None:
    """Number the scopes that are kept, the ones in force among them: they were made before anything followed."""
    scopes = [_ROOT]
    for scope in scopes:  # grows meanwhile
        scope.number = _number(scope.labels)
        scopes += list((scope.inner or {}).values())


def _failed(scope: _scopes.Scope, kind: type) -> None:
    """Move what is live of an entry that an exception has left to the exception's name; called by its label."""
    name = _text(kind.__name__)
    if name not in _outcomes:
        if len(_outcomes) >= _OUTCOMES_MOST or name == "ok":
            name = "error"
        else:
            _outcomes.add(name)
    if scope.number and _following:
        # What is still under this scope, tasks and threads that were started in it, goes on under the outcome.
        scope.number = _native.label_outcome(scope.entry, scope.began, scope.number, name)


def _teach() -> int:
    """Have the core read back what is set in this context, with few variables and with many."""
    _set(_scopes.Scope(None, {}, _PROBE, False))
    outcome = _native.label_follow(_current, _scopes.Scope, _scopes.NUMBER_OFFSET, _PROBE)
    for number in range(40):
        spare: ContextVar[int] = ContextVar(f"memleak_{number}")
        spare.set(number)
    return _native.label_follow(_current, _scopes.Scope, _scopes.NUMBER_OFFSET, _PROBE) if outcome == 0 else outcome


# -- threads -----------------------------------------------------------------------------------------


def _install() -> None:
    """Let threads, and functions handed to executors, begin with the labels of who starts them; once, for good."""
    global _installed
    _installed = True
    from concurrent.futures import thread as executors
    from functools import wraps
    from threading import Thread

    start, set_ident, submit = Thread.start, Thread._set_ident, executors.ThreadPoolExecutor.submit  # type: ignore[attr-defined]
    worker = getattr(executors, "_worker", None)

    def labelled_start(self: Any) -> None:
        # An executor's own threads go on to run what others hand in.
        scope = _ROOT if getattr(self, "_target", None) is worker else _get()
        if scope is not _ROOT:
            self._memleak_scope = scope
            # From 3.14 on a thread runs in a context made here: a copy of this one if the interpreter was told so.
            if getattr(self, "_context", self) is None and not getattr(sys.flags, "thread_inherit_context", 0):
                self._context = Context()
                self._context.run(_set, scope)
        start(self)

    def labelled_set_ident(self: Any) -> None:
        # The first that a new thread calls: no frame of ours stays on its stack.
        set_ident(self)
        scope = self.__dict__.pop("_memleak_scope", _ROOT)
        if scope is not _ROOT:
            _set(scope)

    def labelled_submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        scope = _get()
        return submit(self, fn, *args, **kwargs) if scope is _ROOT else submit(self, _run_in, scope, fn, args, kwargs)

    for owner, ours, original in (
        (Thread, labelled_start, start),
        (Thread, labelled_set_ident, set_ident),
        (executors.ThreadPoolExecutor, labelled_submit, submit),
    ):
        setattr(owner, original.__name__, wraps(original)(ours))
    gevent = sys.modules.get("gevent")
    if gevent is not None:
        gevent.Greenlet.add_spawn_callback(_label_greenlet)


def _label_greenlet(greenlet: Any) -> None:
    """Let a greenlet of gevent's that is being made begin with the labels in force, and nothing else as before."""
    scope = _get()
    if scope is not _ROOT and greenlet.gr_context is None:
        context = Context()
        context.run(_set, scope)
        greenlet.gr_context = context


def _run_in(scope: _scopes.Scope, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call *fn* in an executor's thread under the labels of who handed it in."""
    before = _get()
    _set(scope)
    try:
        return fn(*args, **kwargs)
    finally:
        _set(before)


_scopes.set_up(_current, _find, _failed)
