"""Label what SQLAlchemy's statements allocate: `label_engine(engine)`.

A statement runs under the label `sql`. Rows that the driver fetches later, as sqlite3 does, are not under it; those
that come with the result, as with most clients of servers, are.
"""

from __future__ import annotations

from typing import Any

from .fingerprint import label_of

_MARK = "_memleak_label"


def label_engine(engine: Any, *, raw: bool = False, outcome: bool = False) -> None:
    """Label the statements of an engine, an asynchronous one too, or of all engines if given the class `Engine`.

    Args:
        engine: what to listen to.
        raw: label with the statements as they are, not with their shapes; parameters are never in there.
        outcome: note how each statement ends, as ``label(outcome=True)`` does, by the driver's exceptions.
    """
    from sqlalchemy import event  # type: ignore[import-not-found,unused-ignore]

    target = getattr(engine, "sync_engine", engine)

    def begin(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        name = conn.dialect.name
        under = label_of(statement, "text" if name in ("mysql", "mariadb") else "name", raw, outcome)
        if context is not None:
            setattr(context, _MARK, under)
            under.__enter__()

    def end(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        _leave(context)

    def fail(found: Any) -> None:
        _leave(found.execution_context, type(found.original_exception))

    event.listen(target, "before_cursor_execute", begin)
    event.listen(target, "after_cursor_execute", end)
    event.listen(target, "handle_error", fail)


def _leave(context: Any, kind: object = None) -> None:
    under = getattr(context, _MARK, None)
    if under is not None:
        setattr(context, _MARK, None)
        under.__exit__(kind)
