"""Read a table of an SQLite database, row by row.

Arguments: the database, the column by which rows are ordered, and after how many it stops. It waits for a line before
it asks for the rows, and where it stops: there it writes the bytes gained since.
"""

import sqlite3
import sys

import memory


def read(connection, column, stop_after):
    """Read, and stop in the middle."""
    before = memory.held()
    cursor = connection.cursor()
    cursor.execute(f"SELECT id, name, text FROM source ORDER BY {column}")
    for _ in range(stop_after):
        cursor.fetchone()
    print(memory.held() - before, flush=True)
    sys.stdin.readline()
    cursor.close()


def main(path, column, stop_after):
    """Open and read."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("SELECT count(*) FROM source WHERE text > ''").fetchall()  # fills the cache of pages
    print("ready", flush=True)
    sys.stdin.readline()
    read(connection, column, int(stop_after))


if __name__ == "__main__":
    main(*sys.argv[1:])
