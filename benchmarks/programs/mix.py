"""numpy, sqlite3 and json in turns: native allocators behind Python.

usage: mix.py ROUNDS
"""

import json
import sqlite3
import sys

import numpy

database = sqlite3.connect(":memory:")
database.execute("create table reading (id integer primary key, name text, value real)")
seen = 0.0
for number in range(int(sys.argv[1])):
    values = numpy.arange(20_000, dtype=float).reshape(100, 200) % (number + 7)
    seen += float(numpy.sort((values @ values.T).ravel())[::100].sum())
    rows = [(f"reading {i} of {number}", float(value)) for i, value in enumerate(values[0])]
    database.executemany("insert into reading (name, value) values (?, ?)", rows)
    found = database.execute("select name, value from reading order by value desc, id limit 200").fetchall()
    text = json.dumps([{"name": name, "value": value, "tags": [name, str(value)]} for name, value in found])
    seen += len(json.loads(text)) + len(text)
    database.execute("delete from reading where id % 3 = 0")
print(f"{seen:.3f}")
