"""The databases of the SQL worker: DuckDB in its own process, and whatever an ADBC driver reaches.

Each has tables(), lend(), take_back(), run(), cancel(), fraction() and refusal(); knows nothing of requests. One source with result.py and worker.py.
"""

import json
import os
import re
import threading

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

    def tables(self, statements):
        """The names that these would look up and it does not know."""
        names = set()
        for sql in statements:
            try:
                names |= self.connection.get_table_names(sql)
            except Exception:
                # It binds, and knows no column of what it does not know: whatever may be a table.
                names |= {name.strip('"').replace('""', '"') for name in MAY_BE_TABLE.findall(sql)}
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

    def tables(self, statements):
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
    """What a variable was; see values.py in src/magics/languages."""
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
