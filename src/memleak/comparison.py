"""What became of one row between two snapshots."""

from typing import Optional

from .estimate import normal_quantile
from .rows import DiffRow, Row

_Z = normal_quantile(0.975)


def change(newer: Optional[Row], older: Optional[Row]) -> DiffRow:
    """Return the difference of two rows of the same stack; one of them may be None: it had no such row."""
    shown = newer or older
    assert shown is not None

    def difference(column: str) -> int:
        return (getattr(newer, column) or 0 if newer else 0) - (getattr(older, column) or 0 if older else 0)

    errors = [row.est_bytes_se if row.samples else 0 for row in (newer, older) if row is not None]
    growth = difference("est_bytes")
    se = None if None in errors else round(sum(error * error for error in errors if error) ** 0.5)
    return DiffRow(
        mod_name=shown.mod_name,
        back_trace=shown.back_trace,
        python_trace=shown.python_trace,
        native_trace=shown.native_trace,
        mixed_trace=shown.mixed_trace,
        pid=shown.pid,
        process=shown.process,
        host=shown.host,
        diff_est_bytes=growth,
        diff_est_bytes_se=se,
        diff_est_bytes_low=None if se is None else round(growth - _Z * se),
        diff_est_bytes_high=None if se is None else round(growth + _Z * se),
        diff_est_count=difference("est_count"),
        diff_total_bytes=difference("total_bytes"),
        diff_total_count=difference("total_count"),
        est_bytes=newer.est_bytes if newer else 0,
        est_count=newer.est_count if newer else 0,
        older_est_bytes=older.est_bytes if older else 0,
        older_est_count=older.est_count if older else 0,
        samples=newer.samples if newer else 0,
        older_samples=older.samples if older else 0,
        exact=all(row.exact for row in (newer, older) if row is not None),
        labels=shown.labels,
    )
