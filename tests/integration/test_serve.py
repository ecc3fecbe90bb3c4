"""`memleak serve` from the real client: the page's session, errors, logins."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mariadbclient import CLIENT, serving, wait_for_samples, workers

from memleak import locate, query
from memleak.sql import TABLES

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs/page-session.md"
WRITE = os.environ.get("MEMLEAK_TEST_WRITE_PAGE") == "1"  # the outputs into docs/page-session.md
PROMPT = "MySQL [oceanbase]> "
PASSWORD = "a long one"
STATEMENT = (
    "SELECT * FROM __all_virtual_malloc_sample_info WHERE mod_name='glibc_malloc' ORDER BY alloc_bytes DESC limit 10"
)

for module in ("mysql_mimic", "sqlglot"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed", allow_module_level=True)
if shutil.which(CLIENT) is None:
    pytest.skip(f"{CLIENT} is not installed", allow_module_level=True)


@pytest.fixture
def service(compiled, runtime_directory, core_path):
    """Three workers of the example service and a server over them: (server, workers)."""
    binary = compiled(ROOT / "examples/leaky_service.c", f"-ffile-prefix-map={ROOT}=.")
    socket_path = runtime_directory / "serve.sock"
    running = workers(binary, core_path, runtime_directory, 3)
    with running as processes, serving(runtime_directory, "--socket", socket_path) as server:
        yield server, processes


def test_the_page_session(service):
    """Every statement of docs/page-session.md gives what stands there but for times, numbers and addresses."""
    server, _ = service
    text = PAGE.read_text()
    blocks = re.findall(r"^```\n(MySQL.*?)^```$", text, re.MULTILINE | re.DOTALL)
    statements, outputs = [], []
    for block in blocks:
        for part in block.split(PROMPT)[1:]:
            statement, _, output = part.partition("\n")
            statements.append(statement.rstrip(";"))
            outputs.append(output)
    answers = [answer.text for answer in server.ask(*statements)]
    if WRITE:
        written = iter(zip(statements, answers))
        host = os.uname().nodename
        for block in blocks:
            parts = [next(written) for _ in block.split(PROMPT)[1:]]
            new = "\n".join(f"{PROMPT}{statement};\n{_told(answer, host)}\n" for statement, answer in parts)
            text = text.replace(block, new)
        PAGE.write_text(text)
        return
    for statement, expected, answer in zip(statements, outputs, answers):
        assert _shape(answer) == _shape(expected), statement


def _told(answer: str, host: str) -> str:
    """Return an answer without the name of this machine."""
    return re.sub(rf"\| {re.escape(host)}( *)\|", lambda found: f"| {'host'.ljust(len(found[0]) - 4)} |", answer)


def _shape(answer: str) -> list[str]:
    """Return an answer without what depends on the run: numbers in rows, addresses, times, widths, machine."""
    lines = []
    answer = _told(answer.strip("\n"), os.uname().nodename)
    header = True
    for line in answer.splitlines():
        line = re.sub(r" \(\d+\.\d+ sec\)", "", line)
        if line.startswith("+"):
            continue
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not header:
                cells = [re.sub(r"^(\S*0x[0-9a-f]+ ?)+$", "TRACE", cell) for cell in cells]
                cells = [re.sub(r"\d+(\.\d+)?", "N", cell) if "(" not in cell else "WORDS" for cell in cells]
            line, header = "|".join(cells), False
        else:
            header = True
        lines.append(line)
    return lines


def test_rows_of_the_page(service):
    """The page's statement: its columns first and in order, a row for each process and stack, the largest first."""
    server, running = service
    (answer,) = server.ask(STATEMENT)
    rows = answer.rows
    assert list(rows[0])[:9] == [
        "svr_ip", "svr_port", "tenant_id", "ctx_id", "mod_name", "back_trace", "ctx_name", "alloc_count", "alloc_bytes",
    ]  # fmt: skip
    assert {row["svr_port"] for row in rows[:3]} == {str(worker.pid) for worker in running}
    assert len({row["back_trace"] for row in rows[:3]}) == 1, "the same stack in three processes"
    assert [int(row["alloc_bytes"]) for row in rows] == sorted((int(row["alloc_bytes"]) for row in rows), reverse=True)
    assert {(row["tenant_id"], row["ctx_id"], row["ctx_name"]) for row in rows} == {("500", "22", "GLIBC")}
    assert rows[0]["native_trace"].startswith("session_create (")


@pytest.mark.parametrize("first", ["min", "max"])
@pytest.mark.parametrize(("least", "greatest", "mode"), [(10000, 10000, "off"), (1, 1, "full"), (16, 256, "normal")])
@pytest.mark.parametrize("before", ["off", "full", "normal"])
def test_both_intervals_in_either_order(runtime_directory, core_path, compiled, first, least, greatest, mode, before):
    """Whatever the mode, the page's two statements lead to each other one, and no process has a pair out of order."""
    values = {"min": least, "max": greatest}
    second = "max" if first == "min" else "min"
    binary = compiled(ROOT / "examples/leaky_service.c", f"-ffile-prefix-map={ROOT}=.")
    with workers(binary, core_path, runtime_directory, 2) as running:
        for worker in running:
            subprocess.run([sys.executable, "-m", "memleak", "set", str(worker.pid), f"mode={before}"], check=True)
        with serving(runtime_directory, "--no-symbols", "--socket", runtime_directory / "s.sock") as server:
            set_it = "ALTER SYSTEM SET _{0}_malloc_sample_interval={1}"
            show = "SHOW PARAMETERS LIKE '\\_m__\\_malloc\\_sample\\_interval'"
            one, shown, two, after = server.ask(
                set_it.format(first, values[first]), show, set_it.format(second, values[second]), show
            )
    assert (one.error, two.error) == (None, None)
    for row in shown.rows:
        pair = {r["name"][1:4]: int(r["effective"]) for r in shown.rows if r["svr_port"] == row["svr_port"]}
        assert pair["min"] <= pair["max"]
        if row["name"] == f"_{first}_malloc_sample_interval":
            assert row["value"] == str(values[first]), "what was asked for is shown, in force or not"
    assert len(after.rows) == 4
    for row in after.rows:
        wanted = str(values[row["name"][1:4]])
        assert (row["value"], row["requested"], row["effective"]) == (wanted, wanted, wanted), (mode, row)
        assert "pending" not in row["info"]


ERRORS = {
    "ALTER SYSTEM SET _min_malloc_sample_interval=0": 1231,
    "ALTER SYSTEM SET _max_malloc_sample_interval=10001": 1231,
    "ALTER SYSTEM SET _max_malloc_sample_interval='many'": 1232,
    "ALTER SYSTEM SET _max_malloc_sample_interval": 1064,
    "ALTER SYSTEM SET _no_such_interval=1": 1193,
    "SELECT nope FROM malloc_sample_info": 1054,
    "SELECT `nope` FROM malloc_sample_info": 1054,
    "SELECT * FROM nope": 1146,
    "SELECT * FROM sqlite_master": 1146,
    "DESC nope": 1146,
    "SELECT * FROM nowhere.stacks": 1049,
    "SELECT @@nope": 1193,
    "SET nope = 1": 1193,
    "SELEC 1": 1064,
    "SELECT nope(1)": 1305,
    "SELECT load_extension('x')": 1142,
    "DELETE FROM malloc_sample_info": 1290,
    "UPDATE malloc_sample_info SET samples = 1": 1290,
    "INSERT INTO stacks VALUES (1)": 1290,
    "CREATE TABLE t (a int)": 1290,
    "DROP TABLE stacks": 1290,
    "ATTACH DATABASE '/tmp/x' AS y": 1064,
    "PRAGMA query_only = OFF": 1064,
    "SHOW GRANTS": 1064,
    "SELECT stack_id FROM stacks JOIN frames ON 1": 1052,
}


def test_errors_are_mysqls(service):
    """What is wrong, unknown or would write has MySQL's code, and the session goes on."""
    server, _ = service
    answers = server.ask(*ERRORS, "SELECT 1 AS one")
    assert {statement: answer.error for statement, answer in zip(ERRORS, answers)} == ERRORS
    assert answers[-1].rows == [{"one": "1"}]


@pytest.mark.slow
def test_hostile_statements_are_bounded(service):
    """They end in time, with an error, and the server's memory stays within bounds; it answers others afterwards."""
    server, _ = service
    endless = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n)"
    nested = "(" * 2000
    long = "replace(replace(printf('%.*c', 1000, 'x'), 'x', 'xxxxxxxxxx'), 'x', 'xxxxxxxxxx')"  # 100,000 characters
    statements = {
        f"{endless} SELECT max(i) FROM n": 3024,
        f"SELECT count(*) FROM {', '.join(f'frames f{number}' for number in range(12))}": 3024,
        f"{endless} SELECT i, {long} FROM n": 1104,
        f"{endless} SELECT i, printf('%.*c', 100000, 'x') FROM n": 1105,
        f"{endless} SELECT i FROM n": 1104,
        f"{endless} SELECT group_concat({long}) FROM n": 3024,
        f"SELECT {nested}1": 1064,
        "SELECT " + "1," * 5000 + "1": 1105,
        "SELECT '" + "x" * 70_000 + "'": 1153,
    }
    for statement, code in statements.items():
        began = time.monotonic()
        (answer,) = server.ask(statement)
        assert answer.error == code, (statement[:80], answer.text[:300])
        assert time.monotonic() - began < 30, statement[:80]
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert int(re.search(r"VmHWM:\s+(\d+)", status)[1]) < 1_000_000, "KiB"
    assert server.ask("SELECT 1 AS one")[0].rows == [{"one": "1"}]


def test_what_clients_ask_by_themselves(service):
    """Databases, tables, columns, variables, and statements of transactions that there are none of."""
    server, _ = service
    databases, tables, variables, functions, warnings = server.ask(
        "SHOW DATABASES", "SHOW TABLES", "SHOW VARIABLES LIKE 'version_comment'",
        "SELECT DATABASE() AS d, @@version_comment AS v, USER() AS u, count(*) FROM threads", "SHOW WARNINGS",
    )  # fmt: skip
    assert databases.rows == [{"Database": "oceanbase"}]
    assert {row["Tables_in_oceanbase"] for row in tables.rows} >= set(TABLES)
    assert variables.rows == [{"Variable_name": "version_comment", "Value": "memleak"}]
    assert functions.rows[0]["d"] == "oceanbase" and functions.rows[0]["count(*)"] == "3"
    assert warnings.text.startswith("Empty set")
    for answer in server.ask("SET NAMES utf8mb4", "SET autocommit = 1", "BEGIN", "COMMIT"):
        assert answer.error is None, answer.text


def test_nobody_gets_in_without_the_password(runtime_directory):
    """A wrong password or name is refused with 1045; whoever goes on talking nevertheless is not answered."""
    with serving(runtime_directory, "--port", 0, password=PASSWORD) as server:
        assert server.try_to_log_in("-u", "root", f"-p{PASSWORD}").returncode == 0
        assert server.try_to_log_in("-u", "root@sys", f"-p{PASSWORD}").returncode == 0
        for options in (["-u", "root", "-pwrong"], ["-u", "root"], ["-u", "other", f"-p{PASSWORD}"]):
            refused = server.try_to_log_in(*options)
            assert (refused.returncode, refused.stderr[:28]) == (1, "ERROR 1045 (28000): Access d"), refused.stderr
        unknown = server.try_to_log_in("-u", "root", f"-p{PASSWORD}", "-D", "nowhere")
        assert "ERROR 1049" in unknown.stderr

        with socket.create_connection((server.connection[1], int(server.connection[3])), 20) as raw:
            raw.settimeout(20)
            raw.recv(4096)
            login = b"\x01\x82\x08\x00" + bytes([0, 0, 0, 1, 45]) + bytes(23) + b"root\0" + b"\x14" + b"x" * 20
            login += b"mysql_native_password\0"
            raw.sendall(len(login).to_bytes(3, "little") + b"\1" + login)
            statement = b"\x03SELECT 42"
            raw.sendall(len(statement).to_bytes(3, "little") + b"\0" + statement)
            received = b""
            while part := raw.recv(4096):
                received += part
            assert b"Access denied" in received and b"42" not in received.replace(b"28000", b"").split(b"denied")[1]


def test_tls(runtime_directory, tmp_path):
    """With a certificate TCP is served encrypted only."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
            "-days", "2", "-subj", "/CN=localhost",
        ],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    words = [runtime_directory, "--port", 0, "--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    with serving(*words, password=PASSWORD) as server:
        encrypted = server.try_to_log_in("-u", "root", f"-p{PASSWORD}", "--ssl", f"--ssl-ca={tmp_path / 'cert.pem'}")
        assert encrypted.returncode == 0, encrypted.stderr
        plain = server.try_to_log_in("-u", "root", f"-p{PASSWORD}", "--skip-ssl")
        assert (plain.returncode, plain.stderr[:18]) == (1, "ERROR 3159 (HY000)"), plain.stderr


def test_the_socket_is_for_this_user_alone(runtime_directory):
    """Mode 0600 in a directory of mode 0700, gone afterwards; a directory that others may enter is refused."""
    path = runtime_directory / "serve.sock"
    with serving(runtime_directory) as server:
        assert server.connection == ["--socket", str(path)], "the usual place"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert server.try_to_log_in().returncode == 0
        assert server.try_to_log_in("-u", "root", "-pwhatever").returncode == 0, "the peer's user id decides"
        assert server.try_to_log_in("-u", "somebody").stderr.startswith("ERROR 1045")
        assert "is listening there already" in refused(runtime_directory, "--socket", path)
    assert not path.exists()
    runtime_directory.chmod(0o755)
    assert "mode 0700" in refused(runtime_directory, "--socket", path)


def test_it_does_not_start_open(runtime_directory, tmp_path):
    """TCP needs a password, other addresses TLS."""
    assert "needs a password" in refused("--port", "0")
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in refused("--port", "0", "--password-file", tmp_path / "empty")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    assert "--tls-cert" in refused("--port", "0", "--host", "0.0.0.0", "--password-file", tmp_path / "password")


def test_without_the_extra(tmp_path):
    """It says what to install."""
    (tmp_path / "mysql_mimic.py").write_text("raise ModuleNotFoundError('none', name='mysql_mimic')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert "pip install 'memleak[mysql]'" in refused(environ={**os.environ, "PYTHONPATH": path})


def refused(*words: object, environ: dict[str, str] | None = None) -> str:
    """Return the line with which `memleak serve` ends at once."""
    command = [sys.executable, "-m", "memleak", "serve", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_the_same_rows_of_a_pid_a_killed_process_and_a_directory(compiled, runtime_directory, core_path):
    """One statement about a live process, about what it left when it was killed, and about all workers."""
    binary = compiled(ROOT / "examples/leaky_service.c", f"-ffile-prefix-map={ROOT}=.")
    columns = "svr_port, mod_name, back_trace, alloc_count, alloc_bytes, est_bytes, stack_id"
    statement = f"SELECT {columns} FROM malloc_sample_info WHERE svr_port = ? ORDER BY alloc_bytes DESC, back_trace"
    with workers(binary, core_path, runtime_directory, 3) as running:
        wait_for_samples(runtime_directory, 3)
        for worker in running:
            worker.send_signal(signal.SIGSTOP)
        first = running[0]
        (path,) = locate.find(first.pid)
        of_pid = query.open(first.pid).sql(statement, (first.pid,)).rows
        of_directory = query.open(runtime_directory).sql(statement, (first.pid,)).rows
        grouped = "SELECT count(*), count(DISTINCT back_trace), count(DISTINCT svr_port) FROM malloc_sample_info"
        per_stack = query.open(runtime_directory).sql(f"{grouped} GROUP BY stack_id ORDER BY sum(est_bytes) DESC").rows
        bases = {Path(f"/proc/{one.pid}/maps").read_text().partition("-")[0] for one in running}
        first.kill()
        first.wait()
        of_dead = query.open(path).sql(statement, (first.pid,)).rows
    assert of_pid == of_directory == of_dead
    assert of_pid[0][1] == "glibc_malloc" and of_pid[0][4] > 0
    assert len(bases) == 3, "each is loaded elsewhere"
    assert per_stack[0] == (3, 1, 3)
