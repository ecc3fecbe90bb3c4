"""Knobs as OceanBase's parameters, over recordings of processes that adopt what they are asked for."""

import contextlib

import pytest
from tracedprocess import traced_process

pytest.importorskip("mysql_mimic", reason="mysql_mimic is not installed")

from memleak import control
from memleak.layout import HEADER
from memleak.server.codes import SqlError
from memleak.server.parameters import COLUMNS, Parameters

LEAST, GREATEST = "_min_malloc_sample_interval", "_max_malloc_sample_interval"
OFFSETS = [
    HEADER.offsets[name]
    for name in ("requested", "effective", "requested_sample_bytes", "effective_sample_bytes")
]  # fmt: skip


@pytest.fixture
def service(tmp_path):
    """Two processes and the parameters over them."""
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                traced_process(tmp_path, how="adopt", offsets=OFFSETS, name=f"{number}.mlrec", recording_id=number + 1)
            )
            for number in range(2)
        ]
        yield Parameters([tmp_path]), [path for _, path in running]


def native(paths):
    return [control.read_knobs(path).requested.native for path in paths]


def shown(parameters, pattern="%interval"):
    found = [dict(zip(COLUMNS, row)) for row in parameters.rows(pattern)]
    return {(row["svr_port"], row["name"]): (row["value"], row["requested"], row["info"][:7]) for row in found}


def test_a_pair_out_of_order_waits(service):
    """It is shown as set, no process has it; the other value brings both."""
    parameters, paths = service
    (warning,) = parameters.assign({LEAST: "10000"})
    assert warning.startswith(f"{LEAST}=10000: waits for the other")
    assert native(paths) == [(16, 256)] * 2
    values = shown(parameters, LEAST)
    assert len(values) == 2 and set(values.values()) == {("10000", "16", "pending")}
    assert parameters.assign({GREATEST: "10000"}) == []
    assert native(paths) == [(10000, 10000)] * 2
    assert set(shown(parameters, LEAST).values()) == {("10000", "10000", "the min")}


def test_a_waiting_value_can_be_replaced(service):
    """The last one counts; in order it is in force at once."""
    parameters, paths = service
    parameters.assign({LEAST: "9000"})
    parameters.assign({LEAST: "8"})
    assert native(paths) == [(8, 256)] * 2
    parameters.assign({GREATEST: "512"})
    assert native(paths) == [(8, 512)] * 2


def test_it_waits_for_the_last_process(service):
    """Out of order in one process is out of order: no other one gets half of the pair."""
    parameters, paths = service
    control.set_knobs(paths[0], min=1, max=4)
    parameters.assign({LEAST: "100"})
    assert native(paths) == [(1, 4), (16, 256)]
    parameters.assign({GREATEST: "1000"})
    assert native(paths) == [(100, 1000)] * 2


def test_one_process(service):
    """By its address, as OceanBase's SERVER clause has it."""
    parameters, paths = service
    pid = control.read_knobs(paths[1]).pid
    parameters.assign({"min_sample_interval": "8", "sample_bytes": "8192"}, f"127.0.0.1:{pid}")
    assert native(paths) == [(16, 256), (8, 256)]
    assert control.read_knobs(paths[1]).requested.sample_bytes == 8192
    with pytest.raises(SqlError, match="SERVER"):
        parameters.assign({LEAST: "9"}, "127.0.0.1:1")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({LEAST: "0"}, 1231),
        ({GREATEST: "10001"}, 1231),
        ({"sample_bytes": "5"}, 1231),
        ({LEAST: "1.5"}, 1232),
        ({LEAST: "x"}, 1232),
        ({"nope": "1"}, 1193),
        ({LEAST: "20", GREATEST: "10"}, 1231),
        ({LEAST: "20", "nope": "1"}, 1193),
    ],
)
def test_wrong_values_change_nothing(service, values, code):
    """MySQL's codes; no process and nothing that waits is changed."""
    parameters, paths = service
    before = shown(parameters)
    with pytest.raises(SqlError) as found:
        parameters.assign(values)
    assert found.value.code == code
    assert native(paths) == [(16, 256)] * 2 and shown(parameters) == before


def test_without_recordings(tmp_path):
    """Nothing is set, and a warning says so."""
    parameters = Parameters([tmp_path])
    assert parameters.assign({LEAST: "10000"}) == ["there is no live recording: nothing was changed"]
    assert parameters.rows(None) == []
    with pytest.raises(SqlError):
        parameters.assign({LEAST: "0"})
