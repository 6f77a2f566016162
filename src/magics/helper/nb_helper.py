"""Our magics inside an IPython kernel: they call the supervisor and hand back what it gives.

Run once at the start of a kernel and whenever the supervisor is a new one; see install(). Python 3.8
and its standard library are enough. Leaves nothing in the user's namespace and keeps no state there.
"""

import json
import os
import sys

CONNECT_SECONDS = 10

# So much output waits in the kernel for a supervisor that is stopped for a while.
OUTPUT_MESSAGES_MAX = 100_000

# How the endpoint ends where that is so; the supervisor knows it.
OUTPUT_ENDPOINT = "-6"


# Of a longer frame so many rows are shown.
ROWS_SHOWN = 20


class NbError(Exception):
    """A magic that failed: one sentence, then a log, without the frames of this file."""

    nb_log = ""
    nb_traceback = None

    def _render_traceback_(self):
        if self.nb_traceback:
            return self.nb_traceback
        lines = ["\x1b[31m%s\x1b[39m: %s" % (type(self).__name__, self)]
        return lines + [self.nb_log] if self.nb_log else lines


class Interrupted(KeyboardInterrupt):
    """An interrupt without the frames of this file."""

    def _render_traceback_(self):
        return ["\x1b[31mKeyboardInterrupt\x1b[39m: %s" % self]


Interrupted.__name__ = Interrupted.__qualname__ = "KeyboardInterrupt"


class Report(dict):
    """A result with a look of its own. Copies and pickles are plain dicts."""

    def __repr__(self):
        return self.__dict__.get("shown", {}).get("text/plain") or dict.__repr__(self)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return dict(self.__dict__.get("shown", {}))

    def _repr_html_(self):
        return self.__dict__.get("shown", {}).get("text/html")

    def __reduce_ex__(self, protocol):
        return dict, (dict(self),)


def error(ename, message, log="", traceback=None):
    if ename == "KeyboardInterrupt" and not traceback:
        return Interrupted(message)
    made = type(ename if ename.isidentifier() else "NbError", (NbError,), {})(message)
    made.nb_log, made.nb_traceback = log, traceback
    return made


def unreachable(reason):
    return error(
        "SupervisorError",
        "The supervisor of this kernel cannot be reached (%s); the kernel itself goes on." % reason,
    )


class Supervisor:
    """The way to the supervisor: HTTP over its Unix socket."""

    def __init__(self, path):
        self.path = path

    def post(self, path, body):
        """The connection and the answer to a request, which may still go on."""
        import http.client
        import socket

        class Connection(http.client.HTTPConnection):
            def connect(this):
                this.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                this.sock.settimeout(CONNECT_SECONDS)
                this.sock.connect(self.path)
                this.sock.settimeout(None)

        connection = Connection("nb")
        try:
            # Surrogates of a file name that is not UTF-8 travel as escapes.
            data = json.dumps(body, default=str).encode("ascii")
            try:
                connection.request("POST", path, data, {"Content-Type": "application/json"})
            except BrokenPipeError:
                # It has heard enough, and says why.
                pass
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as problem:
            connection.close()
            raise unreachable(problem) from None
        except BaseException:
            connection.close()
            raise

    def lines(self, path, body):
        """What the supervisor says, object by object. Closing this closes the connection."""
        import http.client

        connection, response = self.post(path, body)
        try:
            if response.status != 200:
                raise error("SupervisorError", refusal(response))
            while True:
                line = response.readline()
                if not line:
                    raise unreachable("it closed the connection")
                yield json.loads(line)
        except (OSError, ValueError, http.client.HTTPException) as problem:
            raise unreachable(problem) from None
        finally:
            response.close()
            connection.close()

    def reply(self, waiting, body):
        connection, response = self.post("/v1/cells/%s/answer" % waiting, body)
        try:
            response.read()
        finally:
            connection.close()


def refusal(response):
    try:
        return json.loads(response.read())["message"]
    except Exception:
        return "The supervisor refused this cell with status %d." % response.status


def parent_header(shell):
    """The header of the request that runs now, in whatever way this kernel tells it."""
    ways = (
        lambda: shell.kernel.get_parent("shell"),
        lambda: shell.get_parent(),
        lambda: shell.parent_header,
    )
    for way in ways:
        try:
            parent = way()
            parent = parent.get("header", parent)
            if parent.get("msg_id"):
                return json.loads(json.dumps(parent, default=when))
        except Exception:
            continue
    return None


def when(value):
    """The date in a header, as it came: jupyter_client has made it a datetime."""
    import datetime

    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


class Helper:
    """What is registered with one IPython shell."""

    def __init__(self, shell, path, magics, changes):
        self.shell = shell
        self.changes = changes
        self.supervisor = Supervisor(path)
        self.ours = {}
        for name, text, expands in magics:
            self.ours[name] = self.magic(name, text, expands)

    def magic(self, name, text, expands):
        def magic(line, cell=None):
            return self.run(name, line, cell)

        magic.__name__ = magic.__qualname__ = name
        magic.__doc__ = text
        magic.nb_helper = True
        # IPython's mark of a magic whose line is not to be filled in with variables.
        magic._ipython_magic_no_var_expand = not expands
        return magic

    def registered(self, name):
        kinds = self.shell.magics_manager.magics
        return [kinds[kind].get(name) for kind in ("line", "cell")]

    def register(self):
        for name in list(self.ours):
            if name != "nb" and any(map(is_users, self.registered(name))):
                del self.ours[name]
            else:
                self.shell.magics_manager.register_function(self.ours[name], "line_cell", name)

    def after_cell(self, *_):
        self.changes.look()
        self.look_for_others()

    def look_for_others(self):
        """A name that the user has registered is theirs from then on, except nb."""
        for name, magic in list(self.ours.items()):
            if all(known is magic for known in self.registered(name)):
                continue
            if name == "nb":
                self.shell.magics_manager.register_function(magic, "line_cell", name)
                notice = "%nb is always nb's own: it was registered again."
            else:
                del self.ours[name]
                kinds = self.shell.magics_manager.magics
                for kind in ("line", "cell"):
                    if kinds[kind].get(name) is magic:
                        del kinds[kind][name]
                notice = "%%%s is yours from here on; nb's own stays at %%nb %s." % (name, name)
            print("[nb] " + notice, file=sys.stderr, flush=True)

    def run(self, name, line, cell):
        body = {
            "magic": name,
            "line": line,
            "cell": cell,
            "parent": parent_header(self.shell),
        }
        said = self.supervisor.lines("/v1/cells", body)
        try:
            for item in said:
                if "status" in item:
                    self.changes.look()
                    return self.end(item)
                self.act(item)
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted("The cell was interrupted.") from None
        finally:
            said.close()

    def end(self, last):
        if last["status"] != "ok":
            raise error(last["ename"], last["evalue"], last.get("log", ""), last.get("traceback"))
        shown = last.get("display")
        ((kind, value),) = (last.get("result") or {"nothing": None}).items()
        if kind in ("arrow", "lent"):
            value = frame(value, kind == "lent")
        named = last.get("named")
        if named:
            self.shell.user_ns[named["name"]] = value
            return value if named["is_shown"] else None
        if kind == "json" and isinstance(value, dict):
            if shown:
                value = Report(value)
                value.shown = shown
            return value
        if kind == "nothing" and shown:
            self.shell.display_pub.publish(data=shown, metadata={})
        if kind == "path":
            import pathlib

            return pathlib.Path(value)
        return value

    def act(self, item):
        ((kind, what),) = item.items()
        if kind == "stream":
            out = sys.stderr if what["name"] == "stderr" else sys.stdout
            out.write(what["text"])
            out.flush()
        elif kind == "display":
            self.shell.display_pub.publish(
                data=what["data"],
                metadata=what.get("metadata") or {},
                transient=what.get("transient") or {},
                update=what.get("update", False),
            )
        elif kind == "clear":
            self.shell.display_pub.clear_output(what["wait"])
        elif kind == "ask":
            self.answer(what["id"], ask, what["prompt"], what["password"])
        elif kind == "run":
            self.answer(what["id"], self.run_hidden, what["code"])
        # Anything else is from a supervisor newer than this file.

    def answer(self, waiting, function, *arguments):
        try:
            body = {"value": function(*arguments)}
        except Exception as problem:
            body = {"failure": {"ename": type(problem).__name__, "evalue": str(problem)}}
        self.supervisor.reply(waiting, body)

    def run_hidden(self, code):
        import contextlib
        import io

        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "<nb>", "exec"), self.shell.user_global_ns, self.shell.user_ns)
        return printed.getvalue()


def ask(prompt, password):
    if password:
        import getpass

        return getpass.getpass(prompt)
    return input(prompt)


def frame(path, is_lent):
    """An Arrow IPC file as a pandas frame, or as an Arrow table where there is no pandas."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise error(
            "ImportError", "This result is a frame: install pyarrow in this environment to take it."
        ) from None
    # What it maps stays when the file goes.
    table = pyarrow.ipc.open_file(pyarrow.memory_map(path)).read_all()
    if not is_lent:
        os.unlink(path)
    try:
        return previewed(plain_numbers(table).to_pandas())
    except ImportError:
        return table


def plain_numbers(table):
    """Decimals as what pandas reckons with, as its own read_sql and DuckDB have them: integers where they are, else floating point."""
    import pyarrow

    for at, field in enumerate(table.schema):
        if not pyarrow.types.is_decimal(field.type):
            continue
        column = table.column(at)
        try:
            if field.type.scale:
                raise ValueError
            column = column.cast(pyarrow.int64())
        except ValueError:
            # pyarrow's own errors are such too.
            column = column.cast(pyarrow.float64())
        table = table.set_column(at, field.name, column)
    return table


def previewed(frame):
    """Of a long frame the first rows are shown, and how many there are: as it is when it is shown."""
    import weakref

    if len(frame) <= ROWS_SHOWN:
        return frame
    shown = weakref.ref(frame)

    def bundle(include=None, exclude=None):
        whole = shown()
        rows, head = len(whole), whole.head(ROWS_SHOWN)
        note = "{:,} of {:,} rows".format(len(head), rows)
        return {
            "text/plain": "%s\n%s" % (head, note),
            "text/html": "%s<p>%s</p>" % (head._repr_html_(), note),
        }

    # Of this object alone: copies and what is made of it look as frames do.
    object.__setattr__(frame, "_repr_mimebundle_", bundle)
    return frame


def is_users(magic):
    """Whether somebody else than IPython or us has registered this."""
    if magic is None or hasattr(magic, "nb_helper"):
        return False
    module = getattr(magic, "__module__", None) or ""
    return module.split(".")[0] not in ("IPython", "ipykernel")


def hold_output(thread):
    """Lets what is said while nobody takes it wait in this process: ZeroMQ drops it after 1000 messages. An endpoint
    keeps the bound that it was bound with, so there is another one, which the supervisor connects to."""
    import threading

    import zmq

    done = threading.Event()

    def bind_another():
        try:
            endpoint = thread.socket.getsockopt_string(zmq.LAST_ENDPOINT)
            if endpoint.startswith("ipc://"):
                thread.socket.setsockopt(zmq.SNDHWM, OUTPUT_MESSAGES_MAX)
                thread.socket.bind(endpoint.rpartition("-")[0] + OUTPUT_ENDPOINT)
        except zmq.ZMQError:
            # It is there already, or cannot be: then it is as with any other kernel.
            pass
        finally:
            done.set()

    thread.schedule(bind_another)
    done.wait(CONNECT_SECONDS)


def install(path, magics, changes):
    """Registers (name, text, whether IPython expands variables) of `magics`, and follows the files `changes`; silent
    without IPython."""
    try:
        shell = sys.modules["IPython"].get_ipython()
        events, before = shell.events, getattr(shell, "_nb_helper", None)
        helper = Helper(shell, path, magics, Changes(changes))
        helper.register()
        if not hasattr(shell, "_nb_start"):
            # The path and the modules that a kernel starts with: what %clean_path goes back to.
            shell._nb_start = (list(sys.path), dict(sys.modules))
        if before is not None:
            events.unregister("post_run_cell", before.after_cell)
            helper.changes.seen.update(before.changes.seen)
        events.register("post_run_cell", helper.after_cell)
        if changes:
            follow_blocks(shell)
        shell._nb_helper = helper
        hold_output(shell.kernel.iopub_thread)
    except (KeyError, AttributeError):
        return
