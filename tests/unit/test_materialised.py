"""Results that are in memory twice, from recordings with a client's library, its extension and an interpreter."""

import json

import pytest
from recordingwriter import RecordingWriter, word

from memleak import recording
from memleak.cli import verdict
from memleak.materialised import LEAST_BYTES, PEAKS_APART_S
from memleak.query import Snapshot

MALLOC, OBJECT, MEM, RAW, MMAP = 1, 3, 4, 5, 6
MIB = 1 << 20
FULL = {"initial": word(1, 1), "sample_bytes": 0, "python_requested": word(1, 1), "python_effective": word(1, 1)}
MYSQL = ("/usr/lib/libmariadb.so.3", "/venv/MySQLdb/_mysql.cpython-311-x86_64-linux-gnu.so")


class Service:
    """A recording of a program that asks a database."""

    def __init__(self, client=MYSQL, sets=None, **header):
        self.writer = RecordingWriter(python_version=0x030B07F0, python_state=1, **{**FULL, **header})
        self.python = self.writer.module("/usr/bin/python3", main=True)
        self.client = [self.writer.module(path) for path in client]
        self.writer.labels(sets or {1: "sql=SELECT ?"})
        self.at = 0

    def row(self, size, *, domain=MALLOC, through=True, live=True, blocks=20, label_set=1, weight=1.0, **more):
        """Add a stack of *size* bytes in blocks, through the client's modules or the interpreter alone."""
        self.at += 0x10
        client = [(module, self.at) for module in self.client if domain == MALLOC or module != self.client[0]]
        frames = [*(client if through else []), (self.python, self.at)]
        if domain != MALLOC:
            frames.insert(0, (self.python, 0x5))  # of the interpreter's own allocators
        ref = self.writer.row(
            frames, domain=domain, samples=round(blocks / weight), count=blocks, bytes=size, peak=size,
            label_set=label_set, **{"last_cs": 3000, **more},
        )  # fmt: skip
        for _ in range(round(blocks / weight) if live else 0):
            self.writer.live(ref, size=size // blocks, weight=weight)

    def fetching(self, name):
        """Return the Python stack of code with this name."""
        return self.writer.python_stack([(self.writer.code("/venv/driver.py", name), 0)])

    @property
    def found(self):
        return Snapshot(recording.parse(self.writer.bytes(), "r")).materialised()


def test_both_are_live():
    service = Service()
    service.row(18 * MIB)
    service.row(15 * MIB, domain=OBJECT)
    service.row(5 * MIB, domain=MEM, blocks=1)
    (one,) = service.found
    assert (dict(one.labels), one.client, one.when) == ({"sql": "SELECT ?"}, "mysqlclient", "now")
    assert one.driver_bytes.value == pytest.approx(18 * MIB, rel=1e-5) and one.driver_bytes.se == 0
    assert one.python_bytes.value == pytest.approx(20 * MIB, rel=1e-5)
    assert "SSCursor" in one.advice
    assert one.driver.row.mod_name == "glibc_malloc" and one.python.row.mod_name == "pymalloc_obj"


def test_both_were_at_their_peaks():
    """The usual cursor frees the one when it has made the other."""
    service = Service()
    service.row(18 * MIB, live=False, last_cs=2950)
    service.row(20 * MIB, domain=OBJECT)
    (one,) = service.found
    assert (one.when, one.apart_s) == ("peak", 0.5)
    assert one.driver_bytes.value == pytest.approx(18 * MIB) == one.driver_bytes.low
    assert one.driver.now.value == 0 and one.python.now.value == pytest.approx(20 * MIB, rel=1e-5)


def test_peaks_of_another_time_are_not_added():
    service = Service(heartbeat_cs=20_000)
    service.row(18 * MIB, live=False, last_cs=15_000)
    service.row(20 * MIB, domain=OBJECT, live=False, last_cs=15_500)
    service.row(9 * MIB, domain=MEM, live=False, last_cs=200)
    service.row(1 * MIB, domain=MEM, live=False, last_cs=15_400)
    (one,) = service.found
    assert (one.when, one.apart_s, one.driver_bytes.value, one.python_bytes.value) == ("peak", 5.0, 18 * MIB, 21 * MIB)


def test_pools_do_not_count():
    """They lie in memory that the library was counted for."""
    service = Service()
    service.writer.pool(b"result")
    service.row(18 * MIB, domain=129)
    service.row(20 * MIB, domain=OBJECT)
    assert service.found == []


def test_limits_are_those_of_the_samples():
    service = Service(
        initial=word(16, 256), sample_bytes=4 * MIB, python_requested=word(4, 64), python_effective=word(4, 64)
    )
    service.row(18 * MIB, weight=2.0, blocks=40, live=False)
    service.row(20 * MIB, domain=OBJECT, weight=4.0, blocks=80)
    (one,) = service.found
    for side, value in ((one.driver_bytes, 18 * MIB), (one.python_bytes, 20 * MIB)):
        assert 0.5 * value < side.low < value < side.high < 1.6 * value
        assert (side.samples, side.value) == (20, pytest.approx(value, rel=1e-5))


@pytest.mark.parametrize(
    ("why", "driver", "python"),
    [
        ("a batch", {"size": 20 * MIB}, {"size": 20 * MIB // 5}),
        ("small", {"size": LEAST_BYTES - 1000}, {"size": LEAST_BYTES - 1000}),
        ("streamed", None, {"size": 20 * MIB}),
        ("not fetched", {"size": 20 * MIB}, None),
        ("another statement", {"size": 20 * MIB}, {"size": 20 * MIB, "label_set": 2}),
        ("not labelled", {"size": 20 * MIB, "label_set": 0}, {"size": 20 * MIB, "label_set": 0}),
        ("the program's own objects", {"size": 20 * MIB}, {"size": 20 * MIB, "through": False}),
        ("the program's own blocks", {"size": 20 * MIB, "through": False}, {"size": 20 * MIB}),
        (
            "long after",
            {"size": 20 * MIB, "live": False, "last_cs": 1000},
            {"size": 20 * MIB, "last_cs": 1001 + round(100 * PEAKS_APART_S)},
        ),
        ("one sample", {"size": 20 * MIB, "weight": 20.0}, {"size": 20 * MIB, "weight": 20.0}),
    ],
)
def test_what_is_not_there_twice(why, driver, python):
    service = Service(sets={1: "sql=SELECT ?", 2: "sql=DELETE"})
    if driver:
        service.row(**driver)
    if python:
        service.row(domain=OBJECT, **python)
    assert service.found == [], why


def test_drivers_in_python_are_known_by_what_they_call_themselves():
    """psycopg without its extension: libpq through ctypes, rows made by methods that fetch."""
    service = Service(("/venv/psycopg_binary.libs/libpq-9b38f5e3.so.5.17",))
    service.row(20 * MIB)
    service.row(5 * MIB, domain=OBJECT, through=False, python=service.fetching("report"))
    assert service.found == []
    service.row(15 * MIB, domain=OBJECT, through=False, python=service.fetching("Cursor.fetchall"))
    (one,) = service.found
    assert one.python_bytes.value == pytest.approx(15 * MIB, rel=1e-5)
    assert "server-side" in one.advice


@pytest.mark.parametrize(
    ("paths", "client", "advice"),
    [
        (MYSQL, "mysqlclient", "SSCursor"),
        (("/v/mysqlclient.libs/libmysqlclient-1a2b.so.21", *MYSQL[1:]), "mysqlclient", "SSCursor"),
        (MYSQL[:1], "libmysqlclient", "unbuffered"),
        (
            ("/v/a.so", "/v/_mysql_connector.cpython-312-x86_64-linux-gnu.so"),
            "MySQL Connector/Python",
            "buffered=False",
        ),
        (
            ("/usr/lib/libmariadb.so.3", "/v/mariadb/_mariadb.cpython-311.so"),
            "MariaDB Connector/Python",
            "buffered=False",
        ),
        (("/usr/lib/libpq.so.5", "/v/psycopg2/_psycopg.cpython-311.so"), "psycopg2", "named cursor"),
        (("/v/libpq-1.so.5", "/v/psycopg_binary/pq.cpython-311.so"), "psycopg", "stream()"),
        (("/opt/oracle/libclntsh.so.19.1", "/v/oracledb/thick_impl.so"), "Oracle's client", "fetchmany"),
        (("/usr/lib/libtdsodbc.so.0", "/v/pyodbc.cpython-311.so"), "ODBC", "fetchmany"),
        (("/opt/microsoft/libmsodbcsql-18.3.so.2.1", "/v/pyodbc.so"), "ODBC", "fetchmany"),
    ],
)
def test_clients(paths, client, advice):
    service = Service(paths)
    service.row(20 * MIB)
    service.row(20 * MIB, domain=OBJECT, python=service.fetching("fetchall"))
    (one,) = service.found
    assert one.client == client and advice in one.advice


@pytest.mark.parametrize(
    "path",
    ["/usr/lib/libsqlite3.so.0", "/v/_sqlite3.cpython-311.so", "/usr/lib/libpqos.so.4", "/srv/_mysql.py/libapp.so",
     "/v/my_mysql.so", "/v/psycopg_pool/x.so"],
)  # fmt: skip
def test_no_clients(path):
    """SQLite buffers no result: what it holds are its pages, and rows that it has sorted and not yet returned."""
    service = Service((path, path + ".more"))
    service.row(20 * MIB)
    service.row(20 * MIB, domain=OBJECT, python=service.fetching("fetchall"))
    assert service.found == []


def test_all_labels_of_a_statement_are_one_and_without_it_each_set_is():
    sets = {1: "outcome=ok\nsql=S", 2: "route=/a\nsql=S", 3: "outcome=ok\nroute=/b", 4: "outcome=KeyError\nroute=/b"}
    service = Service(sets=sets)
    for number, size in ((1, 2), (3, 7)):
        service.row(size * MIB, label_set=number)
    for number, size in ((2, 3), (4, 7)):
        service.row(size * MIB, domain=OBJECT, label_set=number)
    assert [one.labels for one in service.found] == [(("route", "/b"),), (("sql", "S"),)]


def test_what_is_there_now_comes_first_and_processes_are_apart():
    """Peaks are moments of one process; of several, those that run are asked."""
    now, before, apart, apart_too = Service(), Service(), Service(), Service()
    now.row(2 * MIB)
    now.row(2 * MIB, domain=OBJECT)
    before.row(9 * MIB, live=False)
    before.row(9 * MIB, domain=OBJECT)
    apart.row(9 * MIB)
    apart_too.row(9 * MIB, domain=OBJECT)
    made = [recording.parse(each.writer.bytes(), "r") for each in (before, now, apart, apart_too)]
    assert [one.when for one in Snapshot(made).materialised()] == ["now", "peak"]
    assert [one.when for one in Snapshot(made, alive=[True, False, True, True]).materialised()] == ["peak"]


def test_the_verb_shows_them(tmp_path, capsys):
    service = Service()
    service.row(18 * MIB, live=False, last_cs=2900)
    service.row(20 * MIB, domain=OBJECT)
    path = tmp_path / "r.mlrec"
    path.write_bytes(service.writer.bytes())
    assert verdict.main([str(path), "--no-symbols"]) == 0
    out = capsys.readouterr().out
    assert (
        "in memory twice: under sql=SELECT ? the client library (mysqlclient) holds 18.0 MiB of rows and Python's objects"
        " 20.0 MiB, at their peaks, 1.0 s apart\n    use MySQLdb.cursors.SSCursor" in out
    )
    assert "\n    client: libmariadb.so.3+0x10\n    Python: python3+0x5\n" in out.replace("0x0000", "0x")
    verdict.main([str(path), "--no-symbols", "--json"])
    (one,) = json.loads(capsys.readouterr().out)["materialised"]
    assert (one["when"], one["labels"], one["client"]) == ("peak", {"sql": "SELECT ?"}, "mysqlclient")
    assert (
        one["driver_bytes"]["value"] == one["driver"]["peak"]["value"]
        and one["driver"]["row"]["mod_name"] == "glibc_malloc"
    )
