"""Asks one database what the cells of a notebook ask: a request a line on stdin, what comes of it a line each on stdout.

Run by workers/sql, behind databases.py and result.py in one source; which requests and events there are says wire.rs. Whoever is the same user reads a result
under /proc while this process holds it. Ends with its stdin.
"""

import json
import os
import queue
import sys
import threading
import time

PROGRESS_SECONDS = 0.25

# Between two attempts to cancel.
CANCEL_SECONDS = 0.05

# What runs may take so long to end when nobody is there any more.
END_SECONDS = 1


class Worker:
    def __init__(self, out):
        self.out = out
        self.writing = threading.Lock()
        self.database = None
        # The last result, and of which run it is.
        self.result = self.held_for = None
        # The run that is on, and those that are not to be.
        self.running = None
        self.cancelled = set()

    def say(self, kind, **event):
        line = json.dumps({kind: event}) + "\n"
        with self.writing:
            self.out.write(line)
            self.out.flush()

    def do(self, request):
        ((kind, what),) = request.items()
        try:
            if kind == "open":
                self.database = DuckDb(what) if what["driver"] == "duckdb" else Driver(what)
                self.say("opened")
            elif kind == "tables":
                self.say("tables", names=self.database.tables(what["statements"]))
            elif kind == "run":
                self.run(what)
            elif kind == "let_go" and self.held_for == what["id"]:
                self.let_go()
        except Exception as problem:
            refused = problem
            if not isinstance(problem, Refused):
                refuse = getattr(self.database, "refusal", None)
                refused = refuse(problem) if refuse else Refused(str(problem))
            self.say("failed", message=str(refused), log=refused.log)

    def run(self, what):
        os.chdir(what["folder"])
        self.let_go()
        values = [value_of(value) for value in what["values"]]
        lent = self.database.lend(what["frames"], what["files"])
        ticking = threading.Event()
        self.running = what["id"]
        ticker = threading.Thread(target=self.tick, args=(ticking,), daemon=True)
        ticker.start()
        changed = None
        try:
            for statement in what["statements"]:
                if self.cancelled & {what["id"], None}:
                    raise Refused("interrupted")
                own = [values[at] for at in statement["values"]]
                # Only what the last statement says is asked for.
                self.let_go()
                # Positions in errors are those in the cell.
                sql = "\n" * statement["lines_above"] + statement["sql"]
                reader, changed = self.database.run(sql, own)
                if reader is not None:
                    self.result = Result(reader.schema, what["bytes_max"], what["preview_rows"])
                    try:
                        for batch in reader:
                            self.result.take(batch)
                    finally:
                        # An open one holds the connection.
                        reader.close()
                    self.result.end()
        except BaseException:
            self.let_go()
            raise
        finally:
            self.running = None
            ticking.set()
            ticker.join()
            self.cancelled.clear()
            self.database.take_back(lent)
        result, self.held_for = self.result, what["id"]
        if result is None:
            self.say("done", changed=changed)
        else:
            path = "/proc/%d/fd/%d" % (os.getpid(), result.fd)
            columns = [[field.name, str(field.type)] for field in result.schema]
            self.say("done", path=path, rows=result.rows, columns=columns, preview=result.preview)

    def let_go(self):
        if self.result is not None:
            self.result.let_go()
            self.result = None

    def tick(self, over):
        while not over.wait(PROGRESS_SECONDS):
            try:
                fraction = self.database.fraction()
            except Exception:
                fraction = None
            rows = self.result.rows if self.result is not None else 0
            self.say("progress", fraction=fraction, rows=rows)

    def cancel(self, run):
        """Ends this run, or whatever is on: again and again, since a statement may begin just now."""
        self.cancelled.add(run)
        while self.running is not None and run in (None, self.running):
            try:
                self.database.cancel()
            except Exception:
                # It cannot: whoever waits ends this process.
                return
            time.sleep(CANCEL_SECONDS)


def read(worker, requests):
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "cancel" in request:
            worker.cancel(request["cancel"]["id"])
        else:
            requests.put(request)
    # Nobody is there any more: what runs in a database ends.
    threading.Thread(target=worker.cancel, args=(None,), daemon=True).start()
    deadline = time.monotonic() + END_SECONDS
    while worker.running is not None and time.monotonic() < deadline:
        time.sleep(CANCEL_SECONDS)
    os._exit(0)


def main():
    # What a driver prints is nothing of ours.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker, requests = Worker(out), queue.SimpleQueue()
    threading.Thread(target=read, args=(worker, requests), daemon=True).start()
    while True:
        worker.do(requests.get())


main()
