"""Asks one database what the cells of a notebook ask: a request a line on stdin, what comes of it a line each on stdout.

Run by workers/sql, which says what requests and events there are (wire.rs). A result is an Arrow file in memory that has no name: whoever is
the same user reads it under /proc while this process holds it. Ends with its stdin.
"""

import json
import os
import queue
import re
import sys
import threading
import time

PROGRESS_SECONDS = 0.25

# Between two attempts to cancel.
CANCEL_SECONDS = 0.05

# What runs may take so long to end when nobody is there any more.
END_SECONDS = 1

# Of a value in a preview.
PREVIEW_CHARACTERS = 100
PREVIEW_COLUMNS = 50

# Rows of DuckDB's that are had at once.
BATCH_ROWS = 100_000

# A name behind what a table stands behind; a column of a list is one too, and does no harm.
MAY_BE_TABLE = re.compile(r'''(?i:\bfrom|\bjoin|,)\s*("(?:[^"]|"")+"|[^\W\d]\w*)''')

ARROW_FILES = (".arrow", ".feather", ".ipc")


class Refused(Exception):
    """What went wrong: a sentence, then what more there is to say."""

    def __init__(self, message, log=""):
        Exception.__init__(self, message)
        self.log = log


class DuckDb:
    """DuckDB in this process. By its own way to Arrow and not by ADBC: that has no way to query a frame where it is."""

    def __init__(self, about):
        import duckdb

        self.duckdb = duckdb
        # What is spilled must not go to where the notebook is.
        config = {"temp_directory": about["scratch"]}
        config.update(about["options"])
        self.connection = duckdb.connect(about["uri"] or ":memory:", config=config)
        self.connection.execute("set enable_progress_bar=true; set enable_progress_bar_print=false")

    def tables(self, sql):
        """The names that it would look up and does not know."""
        try:
            names = self.connection.get_table_names(sql)
        except Exception:
            # It binds, and knows no column of what it does not know: whatever may be a table.
            names = {name.strip('"').replace('""', '"') for name in MAY_BE_TABLE.findall(sql)}
        own = self.connection.execute("select table_name from information_schema.tables").fetchall()
        return sorted(names - {name for (name,) in own})

    def lend(self, frames, files):
        """Lets queries see these Arrow files under these names."""
        import pyarrow
        import pyarrow.ipc

        lent = []
        try:
            for name, path in list(frames.items()) + [(path, path) for path in files if is_arrow(path)]:
                source = pyarrow.memory_map(path)
                try:
                    table = pyarrow.ipc.open_file(source).read_all()
                except pyarrow.ArrowInvalid:
                    source.seek(0)
                    table = pyarrow.ipc.open_stream(source).read_all()
                unnamed = [one for one in table.column_names if one.startswith("__index_level_")]
                self.connection.register(name, table.drop_columns(unnamed) if unnamed else table)
                lent.append(name)
        except (OSError, pyarrow.ArrowException) as problem:
            self.take_back(lent)
            raise Refused("%s cannot be read: %s" % (path, problem))
        return lent

    def take_back(self, lent):
        for name in lent:
            self.connection.unregister(name)

    def run(self, sql, values):
        statements = self.connection.extract_statements(sql)
        expected = statements[0].expected_result_type if len(statements) == 1 else []
        try:
            result = self.connection.sql(sql, params=values or None)
        except (self.duckdb.BinderException, self.duckdb.CatalogException):
            # Said by it, the error has a position; it fails before it does anything, as it has just now.
            self.connection.execute(sql, values or None)
            raise
        kinds = self.duckdb.ExpectedResultType
        if result is None or kinds.QUERY_RESULT not in expected:
            return None, None
        # What changes rows may give some back instead.
        if kinds.CHANGED_ROWS in expected and result.columns == ["Count"]:
            counts = result.fetchall()
            return None, counts[0][0] if counts else None
        return result.to_arrow_reader(BATCH_ROWS), None

    def cancel(self):
        self.connection.interrupt()

    def fraction(self):
        """Of 1; nothing where it does not know."""
        percent = self.connection.query_progress()
        return percent / 100 if percent > 0 else None

    def refusal(self, problem):
        text = str(problem).strip()
        message, _, log = text.partition("\n")
        return Refused(message, log.strip("\n"))


class Driver:
    """A database behind an ADBC driver."""

    def __init__(self, about):
        import adbc_driver_manager

        self.adbc = adbc_driver_manager
        find_own_drivers(about["scratch"])
        self.comment = about["comment"]
        options = dict(about["options"])
        if about["uri"]:
            options["uri"] = about["uri"]
        if about["profile"]:
            options = {"profile": about["profile"]}
        else:
            options["driver"] = about["driver"]
        if about["driver"] == "postgresql" or about["profile"]:
            # Where libpq looks for what no URI says.
            for name, value in (("PGUSER", about["user"]), ("PGPASSWORD", about["password"])):
                if value:
                    os.environ[name] = value
            os.environ.setdefault("PGAPPNAME", about["application"])
        else:
            for name in ("username", "password"):
                value = about["user" if name == "username" else name]
                if value:
                    options[name] = value
        self.statement = None
        # Held by whoever ends a statement, or cancels it.
        self.changing = threading.Lock()
        try:
            self.database = adbc_driver_manager.AdbcDatabase(**options)
            self.connection = adbc_driver_manager.AdbcConnection(self.database)
        except (adbc_driver_manager.Error, OSError) as problem:
            raise self.refusal(problem)

    def tables(self, sql):
        return []

    def lend(self, frames, files):
        return []

    def take_back(self, lent):
        pass

    def run(self, sql, values):
        import pyarrow

        with self.changing:
            if self.statement is not None:
                self.statement.close()
            self.statement = self.adbc.AdbcStatement(self.connection)
        # Behind it, so that positions in errors are right; on a line of its own, since the last one may be a comment.
        self.statement.set_sql_query(sql + "\n" + self.comment if self.comment else sql)
        if values:
            self.statement.prepare()
            batch = pyarrow.record_batch(
                [arrow_of(value) for value in values], names=[str(at) for at in range(len(values))]
            )
            array, schema = self.adbc.ArrowArrayHandle(), self.adbc.ArrowSchemaHandle()
            batch._export_to_c(array.address, schema.address)
            self.statement.bind(array, schema)
        stream, changed = self.statement.execute_query()
        reader = pyarrow.RecordBatchReader._import_from_c(stream.address)
        if not len(reader.schema):
            for _ in reader:
                pass
            return None, changed if changed >= 0 else None
        return reader, None

    def cancel(self):
        with self.changing:
            if self.statement is not None:
                self.statement.cancel()

    def fraction(self):
        return None

    def refusal(self, problem):
        text = str(problem).strip()
        # After it comes the whole query once more, with our comment.
        text = text.partition("\n\nQuery was:")[0].partition("\nquery:")[0]
        details = dict(getattr(problem, "details", None) or [])
        primary = details.get("PG_DIAG_MESSAGE_PRIMARY") or details.get(b"PG_DIAG_MESSAGE_PRIMARY")
        for start in ("ERROR:  ", "FATAL:  "):
            text = text.partition(start)[2] or text
        message, _, log = text.partition("\n")
        if isinstance(primary, bytes):
            primary = primary.decode("utf-8", "replace")
        state = getattr(problem, "sqlstate", None)
        if state:
            log = (log.rstrip() + "\nSQLSTATE %s" % state).lstrip("\n")
        return Refused(primary or message, log)


def is_arrow(path):
    return path.lower().endswith(ARROW_FILES) and os.path.isfile(path)


def find_own_drivers(scratch):
    """Lets the driver manager find the drivers that are packages here, below those of the user's own."""
    folder = os.path.join(scratch, "adbc-drivers")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    import adbc_driver_postgresql
    import adbc_driver_sqlite

    for name, package in (("postgresql", adbc_driver_postgresql), ("sqlite", adbc_driver_sqlite)):
        text = 'manifest_version = 1\nname = %s\n[Driver]\nshared = %s\n'
        with open(os.path.join(folder, name + ".toml"), "w") as file:
            file.write(text % (json.dumps(name), json.dumps(package._driver_path())))
    own = os.environ.get("ADBC_DRIVER_PATH")
    os.environ["ADBC_DRIVER_PATH"] = own + os.pathsep + folder if own else folder


def value_of(typed):
    """What a variable was; see values.py in src/magics/sql."""
    import datetime
    import decimal

    kind, text = typed
    make = {
        "null": lambda _: None,
        "bool": bool,
        "int": int,
        "float": float,
        "text": str,
        "bytes": bytes.fromhex,
        "datetime": datetime.datetime.fromisoformat,
        "date": datetime.date.fromisoformat,
        "time": datetime.time.fromisoformat,
        "seconds": lambda text: datetime.timedelta(seconds=float(text)),
        "decimal": decimal.Decimal,
        "list": lambda values: [value_of(value) for value in values],
    }
    return make[kind](text)


def arrow_of(value):
    """An array of this one value. Small integers as such: what takes a larger one takes them too."""
    import pyarrow

    if type(value) is int and -(2**31) <= value < 2**31:
        return pyarrow.array([value], pyarrow.int32())
    try:
        return pyarrow.array([value])
    except (pyarrow.ArrowException, OverflowError) as problem:
        raise Refused("a value cannot be bound: %s" % problem)


class Result:
    """Takes the batches of a result into memory, and what of them is shown."""

    def __init__(self, schema, bytes_max, preview_rows):
        import pyarrow
        import pyarrow.ipc

        self.pyarrow = pyarrow
        self.rows = self.bytes = 0
        self.bytes_max = bytes_max
        self.preview_rows = preview_rows
        self.preview = []
        self.fd = os.memfd_create("nb-result", os.MFD_CLOEXEC)
        # What is a number there and a text in Arrow: which precision it has is known at the end.
        self.numbers = [at for at, field in enumerate(schema) if is_numeric(field.type)]
        self.schema = schema = pyarrow.schema([plain(field) for field in schema])
        self.kept = [] if self.numbers else None
        if self.kept is None:
            self.open(schema)

    def open(self, schema):
        path = "/proc/self/fd/%d" % self.fd
        self.sink = self.pyarrow.OSFile(path, "wb")
        self.writer = self.pyarrow.ipc.new_file(self.sink, schema)

    def take(self, batch):
        self.bytes += batch.nbytes
        if self.bytes > self.bytes_max:
            raise Refused(
                "The result is larger than sql.result_bytes_max = %d bytes, and is not cut off: aggregate it, add a limit or "
                "a filter, or raise that setting." % self.bytes_max
            )
        self.rows += batch.num_rows
        arrays = [column.storage if hasattr(column, "storage") and plain(field) is not field else column
                  for column, field in zip(batch.columns, batch.schema)]
        batch = self.pyarrow.RecordBatch.from_arrays(arrays, schema=self.schema)
        missing = self.preview_rows - len(self.preview)
        if missing > 0:
            columns = [column.to_pylist() for column in batch.slice(0, missing).columns[:PREVIEW_COLUMNS]]
            self.preview.extend([shown(value) for value in row] for row in zip(*columns))
        if self.kept is None:
            self.writer.write_batch(batch)
        else:
            self.kept.append(batch)

    def end(self):
        if self.kept is not None:
            table = self.pyarrow.Table.from_batches(self.kept, self.schema)
            self.kept = None
            for at in self.numbers:
                table = table.set_column(at, table.schema[at].name, decimals(table.column(at)))
            self.schema = table.schema
            self.open(table.schema)
            self.writer.write_table(table)
        self.writer.close()
        self.sink.close()

    def let_go(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def is_numeric(kind):
    return getattr(kind, "type_name", None) == "numeric" and hasattr(kind, "storage_type")


def plain(field):
    """What no reader of Arrow knows, as what it is stored as."""
    if getattr(field.type, "extension_name", "") == "arrow.opaque":
        return field.with_type(field.type.storage_type)
    return field


def decimals(column):
    """Texts of numbers as decimals of the precision that they need; as floating point where that is none."""
    import pyarrow
    import pyarrow.compute

    whole = scale = 0
    for chunk in column.chunks:
        for text in chunk.to_pylist():
            if text is None:
                continue
            before, _, after = text.lstrip("-").partition(".")
            if not before.isdigit() or after and not after.isdigit():
                return pyarrow.compute.cast(column, pyarrow.float64())
            whole, scale = max(whole, len(before)), max(scale, len(after))
    precision = max(whole + scale, 1)
    if precision > 76:
        return pyarrow.compute.cast(column, pyarrow.float64())
    kind = pyarrow.decimal128(precision, scale) if precision <= 38 else pyarrow.decimal256(precision, scale)
    return pyarrow.compute.cast(column, kind)


def shown(value):
    text = "NULL" if value is None else str(value)
    text = text if len(text) <= PREVIEW_CHARACTERS else text[: PREVIEW_CHARACTERS - 1] + "…"
    return text


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
                found = [name for sql in what["statements"] for name in self.database.tables(sql)]
                self.say("tables", names=found)
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
                reader, changed = self.database.run(statement["sql"], own)
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
