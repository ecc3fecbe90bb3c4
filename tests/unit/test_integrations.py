"""The integrations: statements by their shape, requests by their route; what they wrap behaves as it did."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import types

import pytest

from memleak import labels
from memleak.integrations import asgi, dbapi, routes, wsgi
from memleak.integrations.fingerprint import fingerprint


@pytest.mark.parametrize(
    ("sql", "shape"),
    [
        ("SELECT * FROM t WHERE a = 1 AND b = 'x''y' -- hi", "SELECT * FROM t WHERE a = ? AND b = ?"),
        ("select\n\t1.5e-3 ,  .5, 0xFF;", "select ?, ?, ?"),
        ("SELECT a FROM t WHERE id IN (1, 2,3, 4)", "SELECT a FROM t WHERE id IN (?)"),
        ("SELECT a FROM t WHERE id in ( %s, %s )", "SELECT a FROM t WHERE id in (?)"),
        ("SELECT f(1, 2), id IN (5)", "SELECT f(?, ?), id IN (?)"),
        ("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NOW())", "INSERT INTO t VALUES (?, ?)"),
        ("INSERT INTO t (a) VALUES (%(a)s)", "INSERT INTO t (a) VALUES (?)"),
        ("SELECT :name, $1, ?2, @v, a::int", "SELECT ?, ?, ?, @v, a::int"),
        ("SELECT $tag$ it's $ here $tag$, $$x$$", "SELECT ?, ?"),
        ('SELECT "a b"."c" FROM `d e` WHERE x1 = 12', 'SELECT "a b"."c" FROM `d e` WHERE x1 = ?'),
        ("SELECT E'a\\'b', N'c', x'00' /* secret 'q' */ FROM t2", "SELECT ?, ?, ? FROM t2"),
        (r"SELECT 'C:\', 'secret'", "SELECT ?, ?"),
        ("SELECT q'[it's secret]', Q'!it's!', nq'{a'}' FROM t", "SELECT ?, ?, ? FROM t"),
        ("SELECT 'never ends", "SELECT ?"),
        ("SELECT 1 /* never ends", "SELECT ?"),
        (b"SELECT '\xff'", "SELECT ?"),
        ("", ""),
    ],
)
def test_fingerprint(sql, shape):
    """Literals and placeholders are ?, lists are one of them, blanks and comments are one blank."""
    assert fingerprint(sql) == shape
    assert fingerprint(shape) == shape


def test_fingerprint_in_double_quotes():
    """Names as a rule, texts in MySQL."""
    assert fingerprint('SELECT "a" = "b""c"', double_quotes="text") == "SELECT ? = ?"
    odd = r"""SELECT 'a\'secret', "b\"secret" # 'a comment"
        FROM t"""
    assert fingerprint(odd, double_quotes="text") == "SELECT ?, ? FROM t"


def test_fingerprint_of_a_long_statement():
    """A beginning and a digest: two that differ at their ends stay two."""
    columns = ", ".join(f"column_{n}" for n in range(100))
    first, second = (fingerprint(f"SELECT {columns} FROM {table} WHERE a = 5") for table in ("t", "u"))
    assert len(first) == len(second) == 200 and first != second and first[:190] == second[:190]
    assert fingerprint(f"SELECT {columns} FROM t WHERE a = 6") == first


@pytest.mark.parametrize("unit", ["'", "(", "IN (", "VALUES (?", '"', "$a$", "/*", "1,", "(?, ", "VALUES ((", "-", "q'x ", "q'(", "E'"])
def test_fingerprint_takes_linear_time(unit):
    """Whatever stands in a statement."""
    import time

    began = time.process_time()
    fingerprint("SELECT " + unit * 30_000)
    assert time.process_time() - began < 5


class Watched:
    """A DB-API connection that notes the labels in force at each call."""

    def __init__(self):
        self.seen = []
        self.rows = iter([(1,), (2,)])
        self.autocommit = False

    def cursor(self):
        return self

    def execute(self, sql, parameters=()):
        self.seen.append(("execute", labels.current().get("sql")))
        return 2

    def fetchone(self):
        self.seen.append(("fetchone", labels.current().get("sql")))
        return next(self.rows, None)

    def __iter__(self):
        for row in self.rows:
            self.seen.append(("next", labels.current().get("sql")))
            yield row

    def commit(self):
        self.seen.append(("commit", labels.current().get("sql")))


def test_dbapi_labels_statements_and_what_they_fetch():
    """Under the label of the statement that was run last, and nothing else is."""
    watched = Watched()
    connection = dbapi.labelled(watched)
    assert dbapi.labelled(connection) is connection
    cursor = connection.cursor()
    assert cursor.execute("SELECT 1") == 2
    assert cursor.fetchone() == (1,) and list(cursor) == [(2,)]
    cursor.execute("SELECT 'a', 2")
    connection.commit()
    connection.autocommit = True
    assert watched.autocommit and labels.current() == {}
    assert watched.seen == [
        ("execute", "SELECT ?"), ("fetchone", "SELECT ?"), ("next", "SELECT ?"), ("execute", "SELECT ?, ?"), ("commit", None),
    ]  # fmt: skip
    dbapi.labelled(watched, raw=True).cursor().execute("SELECT  1")
    assert watched.seen[-1] == ("execute", "SELECT 1")


def test_sqlite_behaves_as_it_does():
    """Connection and cursor, as context managers too; errors are the driver's."""
    module = types.SimpleNamespace(connect=sqlite3.connect)
    undo = dbapi.instrument(module)
    connection = module.connect(":memory:")
    undo()
    assert module.connect is sqlite3.connect
    connection.row_factory = sqlite3.Row
    with connection as same:
        assert same is connection
        connection.execute("CREATE TABLE t (a, b)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "x" * n) for n in range(5)])
    cursor = connection.cursor()
    assert cursor.execute("SELECT a, b FROM t WHERE a < 3") is cursor
    assert [row["a"] for row in cursor] == [0, 1, 2]
    assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 5
    assert next(connection.execute("SELECT a FROM t"))[0] == 0
    assert [tuple(row) for row in cursor.execute("SELECT a FROM t LIMIT 2").fetchall()] == [(0,), (1,)]
    with pytest.raises(sqlite3.OperationalError):
        cursor.execute("SELECT nothing FROM nowhere")
    assert labels.current() == {}
    connection.close()


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"), ("/users/42/posts", "/users/*/posts"), ("/api/v1/items", "/api/v1/items"), ("", ""),
        ("/a/6f1c-11", "/a/*"), ("/" + "x" * 40, "/*"), ("/a" * 20, "/a" * 8 + "/…"), ("/é", "/*"),
    ],
)  # fmt: skip
def test_route_of_a_path(path, route):
    """What is made of digits or long is left out."""
    assert routes.of_path(path) == route


def test_wsgi():
    """The call, each part, and the end of a response are under the route; errors pass."""
    seen = []

    def app(environ, start_response):
        seen.append(labels.current())
        if environ["PATH_INFO"] == "/list":
            return [b"1"]
        if environ["PATH_INFO"] == "/error":
            raise KeyError

        def parts():
            try:
                seen.append(labels.current())
                yield b"part"
            finally:
                seen.append(labels.current())

        return parts()

    labelled = wsgi.LabelRequests(app, service="x")
    response = labelled({"PATH_INFO": "/users/42", "REQUEST_METHOD": "GET"}, None)
    assert list(response) == [b"part"] and labels.current() == {}
    assert seen == [{"route": "/users/*", "method": "GET", "service": "x"}] * 3
    response.close()
    assert labelled({"PATH_INFO": "/list", "REQUEST_METHOD": "odd"}, None) == [b"1"]
    assert seen[-1]["method"] == "(other)"
    with pytest.raises(KeyError):
        labelled({"PATH_INFO": "/error"}, None)
    assert labels.current() == {}
    broken = wsgi.LabelRequests(app, route=lambda environ: 1 / 0)
    assert broken({"PATH_INFO": "/list"}, None) == [b"1"] and seen[-1]["route"] == "(no route)"


def test_flask():
    """By the rules of the application."""
    flask = pytest.importorskip("flask")
    app = flask.Flask("test")
    seen = []

    @app.route("/users/<int:number>")
    def user(number):
        seen.append(labels.current())
        return "hello"

    app.wsgi_app = wsgi.LabelRequests(app.wsgi_app, route=wsgi.werkzeug_route(app.url_map))
    client = app.test_client()
    assert client.get("/users/7").data == b"hello" and client.get("/nowhere").status_code == 404
    assert seen == [{"route": "/users/<int:number>", "method": "GET"}]


def test_asgi():
    """Requests and connections, concurrent ones each by itself; lifespan is passed on."""
    seen = {}

    async def app(scope, receive, send):
        await asyncio.sleep(0.01)
        seen[scope.get("path", scope["type"])] = labels.current()

    labelled = asgi.LabelRequests(app)

    async def all_at_once():
        scopes = [{"type": "http", "path": f"/{name}/1", "method": "GET"} for name in "abc"]
        scopes += [{"type": "websocket", "path": "/w"}, {"type": "lifespan"}]
        await asyncio.gather(*(labelled(scope, None, None) for scope in scopes))

    asyncio.run(all_at_once())
    expected = {f"/{name}/1": {"route": f"/{name}/*", "method": "GET"} for name in "abc"}
    assert seen == {**expected, "/w": {"route": "/w", "method": "WEBSOCKET"}, "lifespan": {}}


def test_starlette():
    """By its table of routes."""
    pytest.importorskip("starlette")
    pytest.importorskip("httpx")
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    seen = []

    async def user(request):
        seen.append(labels.current())
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/users/{number}", user)])
    client = TestClient(asgi.LabelRequests(app, route=asgi.starlette_route(app)))
    assert client.get("/users/7").text == "hello"
    assert seen == [{"route": "/users/{number}", "method": "GET"}]


def test_sqlalchemy():
    """Statements that end, statements that fail; nothing is left in force."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from memleak.integrations.sqlalchemy import label_engine

    engine = sqlalchemy.create_engine("sqlite://")
    label_engine(engine)
    seen = []

    def noted(value):
        seen.append(labels.current())
        return value

    @sqlalchemy.event.listens_for(engine, "connect")
    def connect(connection, _):
        connection.create_function("noted", 1, noted)

    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT max(noted(:v)) WHERE 1 IN (1, 2)"), {"v": 5}).scalar() == 5
        assert labels.current() == {}
        with pytest.raises(sqlalchemy.exc.OperationalError):
            connection.execute(sqlalchemy.text("SELECT nothing FROM nowhere"))
        assert labels.current() == {}
    assert seen == [{"sql": "SELECT max(noted(?)) WHERE ? IN (?)"}]


def test_django():
    """Views by their route, statements by their shape."""
    django = pytest.importorskip("django")
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    seen = []

    def view(request, number):
        from django.db import connection

        seen.append(labels.current())
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            connection.connection.create_function("noted", 1, lambda value: seen.append(labels.current()))
            cursor.execute("SELECT noted(%s) FROM (SELECT 1) WHERE 1 IN (1, 2)", [5])
        return HttpResponse("hello")

    urls = types.ModuleType("urls")
    urls.urlpatterns = [path("users/<int:number>/", view)]
    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls,
        MIDDLEWARE=["memleak.integrations.django.LabelMiddleware"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )  # fmt: skip
    django.setup()
    from django.test import AsyncClient, Client

    from memleak.integrations.django import label_statements

    label_statements()
    assert Client().get("/users/7/").content == b"hello"
    assert Client().get("/nowhere/").status_code == 404 and labels.current() == {}
    request = {"method": "GET", "route": "/users/<int:number>/"}
    statement = {"sql": "SELECT noted(?) FROM (SELECT ?) WHERE ? IN (?)"}
    assert seen == [request, {**request, **statement}]
    seen.clear()
    assert asyncio.run(AsyncClient().get("/users/7/")).content == b"hello"
    assert seen[0] == request and labels.current() == {}


def seen_outcomes(run) -> list[tuple[dict[str, str], str | None]]:
    """Return the labels and the exception (None: well) of each entry with an outcome that has ended while *run* did."""
    ended = []

    class Noting(labels.label):
        __slots__ = ()

        def __exit__(self, kind=None, *rest):
            if labels.current().get("outcome") == "ok":
                ended.append((labels.current(), kind.__name__ if kind else None))
            super().__exit__(kind, *rest)

    modules = [wsgi, asgi, sys.modules["memleak.integrations.fingerprint"], sys.modules.get("memleak.integrations.django")]
    with pytest.MonkeyPatch.context() as patch:
        for module in filter(None, modules):
            patch.setattr(module, "label", Noting)
        fingerprint.__globals__["_label_of"].cache_clear()
        run()
    fingerprint.__globals__["_label_of"].cache_clear()
    assert labels.current() == {}
    return ended


def test_dbapi_outcomes():
    """Running a statement has one; what is fetched afterwards is under `ok` and counts for nothing."""
    connection = dbapi.labelled(sqlite3.connect(":memory:"), outcome=True)

    def run():
        cursor = connection.cursor()
        assert cursor.execute("SELECT 1").fetchall() == [(1,)] and next(connection.execute("SELECT 2")) == (2,)
        for method in (cursor.execute, connection.execute):
            with pytest.raises(sqlite3.OperationalError):
                method("SELECT nothing")

    found = seen_outcomes(run)
    ok, failing = {"sql": "SELECT ?", "outcome": "ok"}, {"sql": "SELECT nothing", "outcome": "ok"}
    assert [one for one in found if one[1]] == [(failing, "OperationalError")] * 2
    assert found[0] == found[2] == (ok, None) and len(found) == 6  # with two fetches, whose label is a text


def test_wsgi_outcomes():
    """By exceptions, and by answers that frameworks make of them."""
    answers = {"/ok": "200 OK", "/missing": "404 Not Found", "/broken": "503 Service Unavailable"}
    parts = []

    def app(environ, start_response):
        if environ["PATH_INFO"] not in answers:
            raise KeyError
        start_response(answers[environ["PATH_INFO"]], [], None)

        def body():
            parts.append(labels.current()["outcome"])
            yield b"part"

        return body()

    labelled, called = wsgi.LabelRequests(app, outcome=True), []

    def run():
        for path in answers:
            assert b"".join(labelled({"PATH_INFO": path, "REQUEST_METHOD": "GET"}, lambda *words: called.append(words))) == b"part"
        with pytest.raises(KeyError):
            labelled({"PATH_INFO": "/error"}, None)

    found = [(found["route"], kind) for found, kind in seen_outcomes(run)]
    failed = [one for one in found if one[1] not in (None, "StopIteration")]  # the parts' label, a text, ends with that
    assert failed == [("/broken", "HTTP 503"), ("/error", "KeyError")]
    assert [word[0] for word in called] == list(answers.values()) and parts == ["ok", "ok", "HTTP 503"]


def test_asgi_outcomes():
    """The same; a client that goes away cancels."""

    async def app(scope, receive, send):
        if scope["path"] == "/error":
            raise KeyError
        if scope["path"] == "/slow":
            await asyncio.sleep(10)
        await send({"type": "http.response.start", "status": 500 if scope["path"] == "/broken" else 200})

    labelled, sent = asgi.LabelRequests(app, outcome=True), []

    async def send(message):
        sent.append(message["status"])

    async def one(path):
        await labelled({"type": "http", "path": path, "method": "GET"}, None, send)

    async def all_of_them():
        await one("/ok")
        await one("/broken")
        with pytest.raises(KeyError):
            await one("/error")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(one("/slow"), 0.01)

    found = [(found["route"], kind) for found, kind in seen_outcomes(lambda: asyncio.run(all_of_them()))]
    assert found == [("/ok", None), ("/broken", "HTTP 500"), ("/error", "KeyError"), ("/slow", "CancelledError")]
    assert sent == [200, 500]


def test_sqlalchemy_outcomes():
    """By the driver's exceptions."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from memleak.integrations.sqlalchemy import label_engine

    engine = sqlalchemy.create_engine("sqlite://")
    label_engine(engine, outcome=True)

    def run():
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
            with pytest.raises(sqlalchemy.exc.OperationalError):
                connection.execute(sqlalchemy.text("SELECT nothing FROM nowhere"))

    found = [(found["sql"], kind) for found, kind in seen_outcomes(run)]
    assert found == [("SELECT ?", None), ("SELECT nothing FROM nowhere", "OperationalError")]


def test_django_outcomes():
    """By what a view raises, or answers; without a view there is none."""
    pytest.importorskip("asgiref")
    from memleak.integrations.django import OutcomeMiddleware

    def answer(path):
        def get_response(request):
            request.resolver_match = types.SimpleNamespace(route=path)
            if path != "none":
                middleware.process_view(request, None, (), {})
            if path == "raises":
                middleware.process_exception(request, KeyError("x"))
            return types.SimpleNamespace(status_code={"raises": 500, "broken": 503}.get(path, 200))

        middleware = OutcomeMiddleware(get_response)
        assert middleware(types.SimpleNamespace(method="GET")).status_code

    found = seen_outcomes(lambda: [answer(path) for path in ("fine", "raises", "broken", "none")])
    assert [(found["route"], kind) for found, kind in found] == [("/fine", None), ("/raises", "KeyError"), ("/broken", "HTTP 503")]
