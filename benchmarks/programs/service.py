"""A Flask service under load, in process: routing, sqlite, templates, json, sessions of users that stay in memory.

usage: service.py REQUESTS

Requests go through the whole WSGI stack by the test client, one after another, so that their CPU is all there is. That of one
of them, the first tenth left out, goes to standard error: a service starts once.
"""

import hashlib
import json
import sqlite3
import sys
import time

import flask

app = flask.Flask(__name__)
database = sqlite3.connect(":memory:")
database.execute("create table item (id integer primary key, name text, price real)")
database.executemany("insert into item (name, price) values (?, ?)", [(f"item {i}", i * 1.5) for i in range(500)])
sessions: dict = {}
PAGE = "<ul>{% for item in items %}<li>{{ item.name }} costs {{ '%.2f' % item.price }}</li>{% endfor %}</ul>"


@app.route("/items/<int:first>")
def items(first: int):
    """Answer with rows of the database as JSON."""
    rows = database.execute("select id, name, price from item where id >= ? limit 20", (first,)).fetchall()
    return flask.jsonify([{"id": row[0], "name": row[1], "price": row[2]} for row in rows])


@app.route("/page/<int:first>")
def page(first: int):
    """Answer with a page made from a template."""
    rows = database.execute("select name, price from item where id >= ? limit 20", (first,)).fetchall()
    return flask.render_template_string(PAGE, items=[{"name": name, "price": price} for name, price in rows])


@app.route("/login/<user>", methods=["POST"])
def login(user: str):
    """Keep what a user sent; 2,000 users at most are kept."""
    sent = flask.request.get_json()
    sessions[user] = {"token": hashlib.sha256(user.encode()).hexdigest(), "sent": sent, "cart": list(range(20))}
    if len(sessions) > 2000:
        sessions.pop(next(iter(sessions)))
    return {"token": sessions[user]["token"]}


client = app.test_client()
digest = hashlib.sha256()
requests = int(sys.argv[1])
warm = requests // 10
for number in range(requests):
    if number == warm:
        began_ns = time.process_time_ns()
    kind = number % 3
    if kind == 0:
        answer = client.get(f"/items/{number % 480 + 1}")
    elif kind == 1:
        answer = client.get(f"/page/{number % 480 + 1}")
    else:
        answer = client.post(f"/login/user{number}", json={"name": f"user {number}", "likes": [str(number)] * 10})
    if answer.status_code != 200:
        sys.exit(f"request {number}: {answer.status}")
    digest.update(answer.data)
print(f"ns_per_operation {(time.process_time_ns() - began_ns) / (requests - warm):.1f}", file=sys.stderr)
print(json.dumps({"requests": requests, "digest": digest.hexdigest()}))
