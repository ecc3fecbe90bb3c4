"""A small real service, driven in process: Flask, sqlite3 with callbacks into Python, numpy, json, re, threads.

usage: flask_workload.py REQUESTS
"""

import json
import re
import sqlite3
import sys
import threading

import flask

try:
    import numpy
except ImportError:
    numpy = None

app = flask.Flask(__name__)
local = threading.local()


def database() -> sqlite3.Connection:
    """Return this thread's database."""
    if not hasattr(local, "connection"):
        local.connection = sqlite3.connect(":memory:")
        local.connection.create_function("shout", 1, lambda text: re.sub("[aeiou]", "*", text.upper()))
        local.connection.execute("create table word (id integer primary key, text)")
        local.connection.executemany("insert into word (text) values (?)", [(f"word number {i}",) for i in range(200)])
    return local.connection


@app.route("/words/<int:count>")
def words(count: int):
    """Query through a Python function inside sqlite."""
    rows = database().execute("select id, shout(text) from word order by random() limit ?", (count,)).fetchall()
    return flask.jsonify({row[0]: row[1] for row in rows})


@app.route("/sum/<int:size>")
def total(size: int):
    """Do some array arithmetic."""
    if numpy is None:
        return str(sum(range(size)))
    matrix = numpy.arange(size * 8, dtype=float).reshape(8, size)
    return str(numpy.sort((matrix @ matrix.T).ravel()).sum())


@app.route("/fail")
def fail():
    """Raise through a few frames."""
    return json.loads("{broken")


app.config["PROPAGATE_EXCEPTIONS"] = False


def work(requests: int) -> None:
    """Send requests through the whole stack."""
    client = app.test_client()
    for i in range(requests):
        assert client.get(f"/words/{i % 50 + 1}").status_code == 200
        assert client.get(f"/sum/{i % 200 + 10}").status_code == 200
        if i % 10 == 0:
            assert client.get("/fail").status_code == 500


def main() -> None:
    """Work in two threads and the main one."""
    app.logger.disabled = True
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    threads = [threading.Thread(target=work, args=(requests // 4,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    work(requests // 2)
    for thread in threads:
        thread.join()
    print("done")


main()
