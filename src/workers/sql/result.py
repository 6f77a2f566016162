"""A result of the SQL worker: an Arrow file in memory that has no name, and the first rows as text.

Knows nothing of databases. One source with databases.py and worker.py.
"""

import os

# Of a value in a preview.
PREVIEW_CHARACTERS = 100
PREVIEW_COLUMNS = 50


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
