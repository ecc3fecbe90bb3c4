"""Fetch the result of a statement, with cursors that label what they allocate by it.

Arguments: `mysql SOCKET CURSOR ROWS WAY` or `sqlite PATH COLUMN ROWS WAY`; the way is `all` or `iterate`. It waits for
a line before it asks for the rows. It writes the bytes gained when the statement has run, and again when rows are there:
all, or half of them, one by one.
"""

import sqlite3
import sys
from itertools import islice

import memory

from memleak.integrations import dbapi


def mysql(socket, cursor):
    """Connect, and return a cursor and the statement."""
    import MySQLdb
    import stored_cursor

    classes = {"Stored": stored_cursor.StoredCursor}
    connection = dbapi.labelled(MySQLdb.connect(unix_socket=socket, db="scenario"))
    made = connection.cursor(classes.get(cursor) or getattr(MySQLdb.cursors, cursor))
    return made, "SELECT id, text FROM source LIMIT {}"


def sqlite(path, column):
    """Open, and return a cursor and the statement."""
    connection = dbapi.labelled(sqlite3.connect(path))
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection.cursor(), f"SELECT id, name, text FROM source ORDER BY {column} LIMIT {{}}"


def main(client, where, what, rows, way):
    """Fetch, and stop."""
    cursor, statement = {"mysql": mysql, "sqlite": sqlite}[client](where, what)
    print("ready", flush=True)
    sys.stdin.readline()
    before = memory.held()
    cursor.execute(statement.format(rows))
    executed = memory.held() - before
    if way == "all":
        kept = cursor.fetchall()
        assert len(kept) == int(rows)
    else:
        read = sum(len(row) > 1 for row in islice(cursor, int(rows) // 2))
        assert read == int(rows) // 2
    print(memory.held() - before, executed, flush=True)
    sys.stdin.readline()
    cursor.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
