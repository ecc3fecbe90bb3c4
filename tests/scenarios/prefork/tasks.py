"""A Celery service: each task leaks, and its result is the ledger of the process that ran it.

Its queue and its results are directories in /dev/shm. `tasks.py NUMBER PAGES` sends tasks and prints their results.
"""

from __future__ import annotations

import json
import os
import sys

import ledger
from celery import Celery, signals

PLACE = "/dev/shm/celery"
for name in ("outbox", "queue", "control", "results"):
    os.makedirs(f"{PLACE}/{name}", exist_ok=True)

app = Celery("tasks", broker="filesystem://", backend=f"file://{PLACE}/results")
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_transport_options = {
    "data_folder_in": f"{PLACE}/queue",
    "data_folder_out": f"{PLACE}/queue",
    "control_folder": f"{PLACE}/control",
    "polling_interval": 0.02,
}


@signals.worker_process_init.connect
def begin(**_):
    """Prepare a process of the pool."""
    ledger.get_ready()


@app.task(name="serve")
def serve(pages: int) -> dict[str, int]:
    """Do one task."""
    return ledger.serve(pages)


if __name__ == "__main__":
    # A message put into the queue could be read before it is written: it is moved there when it is complete.
    app.conf.broker_transport_options["data_folder_out"] = f"{PLACE}/outbox"
    sent = [serve.delay(int(sys.argv[2])) for _ in range(int(sys.argv[1]))]
    for message in os.listdir(f"{PLACE}/outbox"):
        os.rename(f"{PLACE}/outbox/{message}", f"{PLACE}/queue/{message}")
    print(json.dumps([result.get(timeout=60, interval=0.02) for result in sent]))
