"""Copy a table between MySQL databases, as if a thousand rows at a time were all that is ever in memory.

Arguments: the server's socket, the class of the cursor, how many rows there are and after how many it stops. It waits
for a line before it asks for the rows, and where it stops: there it writes the bytes gained since.
"""

import sys

import memory
import MySQLdb
import MySQLdb.cursors
import stored_cursor

CURSORS = {
    "Cursor": MySQLdb.cursors.Cursor,
    "SSCursor": MySQLdb.cursors.SSCursor,
    "StoredCursor": stored_cursor.StoredCursor,
}


def copy_table(source, destination, cursor_class, rows, stop_after):
    """Copy, and stop in the middle."""
    before = memory.held()
    cursor = source.cursor(cursor_class)
    cursor.execute("SELECT id, text FROM source LIMIT %s", (rows,))
    copied = 0
    while copied < stop_after:
        copied += insert(destination, cursor.fetchmany(1000))
    print(memory.held() - before, flush=True)
    sys.stdin.readline()
    cursor.close()


def insert(destination, rows):
    """Write rows into the other table; return how many."""
    cursor = destination.cursor()
    cursor.executemany("INSERT INTO destination (id, text) VALUES (%s, %s)", rows)
    cursor.close()
    return len(rows)


def main(socket, cursor, rows, stop_after):
    """Connect and copy."""
    source, destination = (MySQLdb.connect(unix_socket=socket, db="scenario") for _ in range(2))
    destination.cursor().execute("CREATE TEMPORARY TABLE destination LIKE source")
    insert(destination, [(-n, "what the first batch buys for good" * 12) for n in range(1, 1001)])
    print("ready", flush=True)
    sys.stdin.readline()
    copy_table(source, destination, CURSORS[cursor], int(rows), int(stop_after))


if __name__ == "__main__":
    main(*sys.argv[1:])
