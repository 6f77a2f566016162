"""Values from one kernel of a notebook to another: the one that gives writes each into memory of its own that has no
name, the other one maps it from there.

Run in both, by python.rs; see give(), lend(), take() and let_go(). Python 3.8 and its standard library are enough, but for frames. Nothing is
left in the user's namespace, nothing is written to a disk.
"""

import json
import os
import sys
import types

# What is plain, and comes back equal but for tuples, which come back as lists.
PLAIN = (str, int, float, bool, type(None))


class MissingPackage(ImportError):
    """A package that is needed to give or take a frame; the message is its name."""


class CannotGoAcross(TypeError):
    pass


class KeptValues(types.ModuleType):
    """The memory that was given and may still be taken."""

    held = ()


def kept():
    return sys.modules.setdefault("_nb_exchange", KeptValues("_nb_exchange"))


def let_go():
    fds, kept().held = kept().held, ()
    for fd in fds:
        os.close(fd)


def package_of(value):
    return type(value).__module__.split(".")[0]


def need(name):
    import importlib

    # It may have come a moment ago.
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise
        raise MissingPackage(name) from None


def has(name):
    import importlib.util

    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def give(namespace, names):
    """Puts what has these names where another kernel takes it; what there is to know of each, as JSON."""
    let_go()
    given = []
    for name in names:
        if name not in namespace:
            raise NameError("name %r is not defined" % name)
        fd = os.memfd_create("nb-value", os.MFD_CLOEXEC)
        kept().held += (fd,)
        about = written(name, namespace[name], "/proc/self/fd/%d" % fd)
        about.update(name=name, path="/proc/%d/fd/%d" % (os.getpid(), fd))
        given.append(about)
    return json.dumps(given)


def lend(namespace, names):
    """The same of those of these that are frames, whatever the others are."""
    frames = ("pandas", "polars", "pyarrow")
    return give(namespace, [name for name in names if package_of(namespace.get(name)) in frames])


def written(name, value, path):
    package, kind = package_of(value), type(value).__name__
    if package == "pandas" and kind in ("DataFrame", "Series"):
        return write_pandas(name, value, path)
    if package == "polars" and kind in ("DataFrame", "Series"):
        return write_polars(value, path)
    if package == "polars" and kind == "LazyFrame":
        raise CannotGoAcross("%s is a LazyFrame: only what is collected goes across (%s.collect())" % (name, name))
    if package == "pyarrow" and kind in ("Table", "RecordBatch"):
        import pyarrow

        table = pyarrow.Table.from_batches([value]) if kind == "RecordBatch" else value
        write_arrow(table, path)
        return {"kind": "arrow"}
    if package == "numpy" and kind == "ndarray" and not value.dtype.hasobject:
        import numpy

        with open(path, "wb") as file:
            numpy.save(file, value, allow_pickle=False)
        return {"kind": "array"}
    if package == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    try:
        text = json.dumps(value)
        problem = not_plain(value)
    except TypeError:
        problem = not_plain(value) or "is no plain value"
    except (RecursionError, ValueError):
        problem = "has itself in it, or is too deep or long a value"
    if problem:
        raise CannotGoAcross(
            "%s %s: frames of pandas, polars and arrow, arrays of numbers and plain values go across"
            % (name, problem)
        )
    with open(path, "w") as file:
        file.write(text)
    return {"kind": "json"}


def not_plain(value):
    """What keeps a value that ends from being JSON that comes back; nothing if it is."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if type(one) in PLAIN:
            continue
        if type(one) not in (list, tuple, dict):
            what = "is" if one is value else "has in it"
            return "%s a %s" % (what, type(one).__qualname__)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if type(one) is dict:
            if any(type(key) is not str for key in one):
                return "has a dictionary with keys that are no text"
            waiting.extend(one.values())
        else:
            waiting.extend(one)
    return None


def write_arrow(table, path):
    import pyarrow
    import pyarrow.ipc

    with pyarrow.OSFile(path, "wb") as sink:
        with pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def write_pandas(name, value, path):
    pyarrow = need("pyarrow")
    about = {"kind": "pandas"}
    if type(value).__name__ == "Series":
        if type(value.name) in PLAIN:
            about["series"] = [value.name]
        else:
            about["series"] = [str(value.name)]
        value = value.to_frame("value")
    elif value.columns.inferred_type.startswith("mixed") and all(type(one) in PLAIN for one in value.columns):
        # Arrow knows texts alone, and pandas makes one kind of them again.
        about["columns"] = list(value.columns)
        value = value.set_axis([str(at) for at in range(value.shape[1])], axis=1)
    try:
        table = pyarrow.Table.from_pandas(value)
    except (pyarrow.ArrowException, TypeError, ValueError) as problem:
        raise CannotGoAcross("%s has no form in Arrow: %s" % (name, problem)) from None
    write_arrow(table, path)
    return about


def write_polars(value, path):
    import polars

    about = {"kind": "polars"}
    if type(value).__name__ == "Series":
        about["series"] = [value.name]
        value = value.to_frame()
    # As every reader of Arrow knows it.
    oldest = {"compat_level": polars.CompatLevel.oldest()} if hasattr(polars, "CompatLevel") else {}
    value.write_ipc(path, compression="uncompressed", **oldest)
    return about


def take(namespace, given):
    """Makes variables of what another kernel has given."""
    taken = {about["name"]: read(about) for about in json.loads(given)}
    namespace.update(taken)


def read(about):
    kind, path = about["kind"], about["path"]
    if kind == "json":
        with open(path) as file:
            return json.load(file)
    if kind == "array":
        return need("numpy").load(path, allow_pickle=False)
    frame = read_frame(kind, path)
    if "columns" in about and package_of(frame) == "pandas":
        frame.columns = about["columns"]
    if "series" not in about:
        return frame
    (name,) = about["series"]
    if package_of(frame) == "pandas":
        series = frame["value"] if kind == "pandas" else frame.iloc[:, 0]
        return series.rename(name)
    if package_of(frame) == "polars":
        return frame.to_series(0).rename(name or "")
    return frame


def read_frame(kind, path):
    """Of the kind that it was, else of one that is here."""
    wanted = {"pandas": ("pandas", "polars"), "polars": ("polars", "pandas")}.get(kind, ())
    wanted = [package for package in wanted if has(package)]
    if kind == "polars" and wanted[:1] == ["polars"]:
        return need("polars").read_ipc(path)
    pyarrow = need("pyarrow")
    import pyarrow.ipc

    # The table is where it was written: nothing is copied.
    table = pyarrow.ipc.open_file(pyarrow.memory_map(path)).read_all()
    if wanted[:1] == ["pandas"]:
        return table.to_pandas()
    if wanted[:1] == ["polars"]:
        return need("polars").from_arrow(table)
    return table
