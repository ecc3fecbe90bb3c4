"""What services import, used a little."""

import array
import bz2
import collections
import ctypes
import datetime
import decimal
import hashlib
import io
import json
import lzma
import pickle
import random
import sqlite3
import ssl
import unicodedata
import xml.etree.ElementTree as tree
import zlib

random.seed(7)
data = bytes(random.randrange(256) for _ in range(50000))
print([len(pack(data)) > 0 and unpack(pack(data)) == data for pack, unpack in ((zlib.compress, zlib.decompress), (bz2.compress, bz2.decompress), (lzma.compress, lzma.decompress))])
print(hashlib.sha256(data).hexdigest(), ssl.create_default_context().verify_mode)
print(decimal.Decimal(2).sqrt(), datetime.datetime(2020, 1, 2, 3).isoformat(), unicodedata.name("é"))
base = sqlite3.connect(":memory:")
base.execute("CREATE TABLE t (a INTEGER, b BLOB)")
base.executemany("INSERT INTO t VALUES (?, ?)", [(i, bytes(i)) for i in range(2000)])
print(base.execute("SELECT count(*), sum(length(b)) FROM t").fetchone())
root = tree.fromstring("<a>" + "".join(f"<b i='{i}'>text</b>" for i in range(2000)) + "</a>")
print(len(root), len(json.dumps([{"key": i} for i in range(5000)])))
print(len(pickle.loads(pickle.dumps([collections.OrderedDict(a=i) for i in range(1000)]))))
print(array.array("d", range(1000))[999], io.BytesIO(data).read(4), ctypes.sizeof(ctypes.c_longlong))
for name in ("numpy", "lxml.etree"):
    try:
        module = __import__(name, fromlist=["x"])
    except ImportError:
        continue
    if name == "numpy":
        print(float((module.arange(10000.0) @ module.ones(10000))))
    else:
        print(len(module.fromstring(b"<a>" + b"<b/>" * 1000 + b"</a>")))
