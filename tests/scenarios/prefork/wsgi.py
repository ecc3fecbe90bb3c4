"""A WSGI service: a request for /PAGES leaks pages, and is answered with the ledger of the worker that served it."""

from __future__ import annotations

import json

import ledger

ledger.get_ready()


def application(environ, start_response):
    """Serve one request."""
    body = json.dumps(ledger.serve(int(environ["PATH_INFO"].strip("/")))).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
