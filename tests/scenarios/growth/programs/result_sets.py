"""Results are fetched whole before the first row is read (mysql_store_result); the last one is closed, or forgotten.

scenario: result sets, buffered
arguments: {socket} closed
needs: mariadb
verdict: churn
seconds: 30

scenario: result sets, kept
arguments: {socket} kept
needs: mariadb
verdict: leak
least: 10 * 1000 * 395
seconds: 30

Ten reports a second, of 1,000 rows of 391 to 400 bytes. The buffered rows are the client library's memory, which
Python's own tools do not see: the blamed line is the one that executes. What else a row takes is the library's matter;
it is less than half as much again. A cursor has an object, and a row that was read, which are kept with it.
"""

import sys

import MySQLdb
from pace import events
from stored_cursor import StoredCursor

socket, what = sys.argv[1:]
connection = MySQLdb.connect(unix_socket=socket, db="scenario")
reports = []


def report():
    if what == "closed" and reports:
        reports.pop().close()
    cursor = connection.cursor(StoredCursor)  # kept with it
    cursor.execute("SELECT id, text FROM source LIMIT 1000")  # blamed
    cursor.fetchone()  # kept with it
    reports.append(cursor)


for _ in events(10):
    report()
