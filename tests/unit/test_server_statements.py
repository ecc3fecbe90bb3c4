"""Which statement a text is, and what becomes of MySQL's SELECT: without a server."""

import pytest

pytest.importorskip("mysql_mimic", reason="mysql_mimic is not installed")

from memleak.server import dialect, statements
from memleak.server.codes import SqlError
from memleak.server.statements import AlterSystem, Assign, Nothing, Show, Use

VALUES = {"version": "8", "database": "oceanbase", "user": "root@localhost", "connection_id": 7, "autocommit": True}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("ALTER SYSTEM SET _min_malloc_sample_interval=16", AlterSystem({"_min_malloc_sample_interval": "16"}, None)),
        ("alter system set a = '1' , b=2", AlterSystem({"a": "1", "b": "2"}, None)),
        ("ALTER SYSTEM a=1 SCOPE=BOTH SERVER='1.2.3.4:5'", AlterSystem({"a": "1"}, "1.2.3.4:5")),
        ("SHOW PARAMETERS", Show("PARAMETERS")),
        ("show parameters like '%x\\_y%'", Show("PARAMETERS", like="%x\\_y%")),
        ("SHOW FULL COLUMNS FROM `stacks` FROM oceanbase", Show("COLUMNS", "stacks", "oceanbase", full=True)),
        ("SHOW TABLES FROM oceanbase LIKE 'a%'", Show("TABLES", None, "oceanbase", "a%")),
        ("DESC oceanbase.stacks", Show("COLUMNS", "stacks", "oceanbase")),
        ("describe stacks depth", Show("COLUMNS", "stacks", like="depth")),
        ("USE `oceanbase`", Use("oceanbase")),
        ("SET NAMES utf8 COLLATE utf8_bin", Assign(())),
        ("SET autocommit=1, @@session.sql_mode = concat(@@sql_mode, ',X'), GLOBAL wait_timeout := 3",
         Assign(("autocommit", "sql_mode", "wait_timeout"))),
        ("START TRANSACTION WITH CONSISTENT SNAPSHOT", Nothing()),
        ("SELECT 1", None),
    ],
)  # fmt: skip
def test_statements(text, meaning):
    """Each is recognized with its parts."""
    assert statements.recognize(text) == meaning


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ALTER SYSTEM SET", 1064),
        ("ALTER SYSTEM SET a", 1064),
        ("ALTER SYSTEM SET a=1,", 1064),
        ("ALTER SYSTEM SET a=1 b=2", 1064),
        ("ALTER SYSTEM SET a=1 TENANT=sys", 1235),
        ("ALTER TABLE stacks ADD x int", 1290),
        ("SET autocommit", 1064),
        ("LOAD DATA INFILE 'x' INTO TABLE y", 1290),
    ],
)
def test_refused_statements(text, code):
    """What begins like one and goes on otherwise is an error of syntax, what writes is refused."""
    with pytest.raises(SqlError) as found:
        statements.recognize(text)
    assert found.value.code == code


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        (" SELECT 1 ; ", "SELECT 1"),
        ("/* a */ -- b\n# c\nSELECT '# d'", "SELECT '# d'"),
        ("/*!40101 SET NAMES utf8 */;", "SET NAMES utf8"),
        ("", ""),
    ],
)
def test_bare(text, bare):
    """Comments in front and the semicolon are taken away."""
    assert statements.bare(text) == bare


@pytest.mark.parametrize(
    ("mysql", "sqlite", "names"),
    [
        ("SELECT count(*), \"a\" FROM oceanbase.stacks LIMIT 2, 3", "SELECT COUNT(*), 'a' FROM stacks LIMIT 3 OFFSET 2",
         ["count(*)", '"a"']),
        ("SELECT `depth`+1, depth d FROM Stacks", "SELECT `depth` + 1, depth AS d FROM Stacks", ["`depth`+1", None]),
        ("SELECT version(), @@autocommit, @unset", "SELECT '8', TRUE, NULL", ["version()", "@@autocommit", "@unset"]),
        ("SELECT if(depth > 1, 'x', 'y') FROM stacks", "SELECT IIF(depth > 1, 'x', 'y') FROM stacks",
         ["if(depth > 1, 'x', 'y')"]),
        ("WITH t AS (SELECT 1 AS a) SELECT a FROM t", "WITH t AS (SELECT 1 AS a) SELECT a FROM t", [None]),
    ],
)  # fmt: skip
def test_select(mysql, sqlite, names):
    """It is put in sqlite's words; columns without a name have their text."""
    translated = dialect.translate(dialect.parse(mysql), mysql, VALUES)
    assert translated.sql == sqlite
    assert translated.name(tuple("?" * len(names))) == [name or "?" for name in names]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT * FROM sqlite_master", 1146),
        ("SELECT * FROM json_each('[1]')", 1146),
        ("SELECT * FROM (SELECT * FROM pragma_table_info('x')) t", 1146),
        ("SELECT * FROM mysql.user", 1049),
        ("SELECT * FROM information_schema.tables", 1109),
        ("SELECT @@nope", 1193),
        ("SELECT 1; SELECT 2", 1064),
        ("SELECT (", 1064),
        ("SELECT " + "(" * 5000, 1064),
        ("SELECT " + "NOT " * 5000 + "1", 1064),
        ("EXPLAIN SELECT 1", 1064),
        ("VALUES ROW(1)", 1064),
        ("--", 1065),
    ],
)
def test_refused_selects(text, code):
    """Tables that are not ours, and what is no SELECT."""
    with pytest.raises(SqlError) as found:
        dialect.translate(dialect.parse(text), text, VALUES)
    assert found.value.code == code


def test_a_database_must_be_chosen():
    """Without one, tables need its name."""
    nowhere = {**VALUES, "database": None}
    for text in ("SELECT 1", "SELECT * FROM memleak.stacks"):
        dialect.translate(dialect.parse(text), text, nowhere)
    with pytest.raises(SqlError, match="No database selected"):
        dialect.translate(dialect.parse("SELECT * FROM stacks"), "SELECT * FROM stacks", nowhere)
