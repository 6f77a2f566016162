"""What variables are, for a database: of each a kind and a text, as JSON. The worker makes the value again.

Run in the kernel by python.rs. Python 3.8 and its standard library are enough.
"""

import json


class CannotBeBound(TypeError):
    pass


def values(namespace, names):
    missing = [name for name in names if name not in namespace]
    if missing:
        raise NameError("name %r is not defined; the query binds it as :%s" % (missing[0], missing[0]))
    return json.dumps([typed(name, namespace[name], 0) for name in names])


def typed(name, value, depth):
    """As [kind, text], a list as ["list", [...]]."""
    import datetime
    import decimal
    import uuid

    package = type(value).__module__.split(".")[0]
    if package == "numpy" and getattr(value, "ndim", 1) == 0:
        if value.dtype.kind == "M":
            value = value.astype("datetime64[us]")
        value = value.item()
    elif package == "pandas" and type(value).__name__ in ("NAType", "NaTType"):
        value = None
    elif depth == 0 and package in ("numpy", "pandas", "polars") and hasattr(value, "tolist"):
        value = value.tolist()
    elif depth == 0 and package == "polars" and hasattr(value, "to_list"):
        value = value.to_list()
    if value is None:
        return ["null", ""]
    if isinstance(value, bool):
        return ["bool", "1" if value else ""]
    if isinstance(value, int):
        return ["int", str(int(value))]
    if isinstance(value, float):
        return ["float", repr(float(value))]
    if isinstance(value, str):
        return ["text", str(value)]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, datetime.datetime):
        # What only pandas knows of it, nanoseconds, no database takes.
        return ["datetime", datetime.datetime.isoformat(value)[:26] if value.tzinfo is None else with_zone(value)]
    if isinstance(value, datetime.date):
        return ["date", value.isoformat()]
    if isinstance(value, datetime.time):
        return ["time", value.isoformat()]
    if isinstance(value, datetime.timedelta):
        return ["seconds", repr(value.total_seconds())]
    if isinstance(value, decimal.Decimal):
        return ["decimal", str(value)]
    if isinstance(value, uuid.UUID):
        return ["text", str(value)]
    if isinstance(value, (list, tuple, set, frozenset)) and depth == 0:
        return ["list", [typed(name, one, 1) for one in value]]
    raise CannotBeBound(
        "%s is of type %s: numbers, texts, dates, bytes and lists of them can be bound; a frame is queried by its name"
        % (name, type(value).__qualname__)
    )


def with_zone(value):
    import datetime

    utc = value.astimezone(datetime.timezone.utc)
    return datetime.datetime.isoformat(utc.replace(tzinfo=None))[:26] + "+00:00"
