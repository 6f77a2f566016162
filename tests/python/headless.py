"""Jobs through HTTP, with clients as they are: `headless.py CASE`.

Run by tests/it/headless.rs, which says in the environment where the gateway is; each case fails by an
exception. `IT_URL` and `IT_TOKEN` are for clients that take a token, `JUPYTER_GATEWAY_*` for those of
jupyter_server, whose token is in the path.
"""

import logging
import multiprocessing
import os
import pwd
import sys
import threading
import time

import nbformat
import papermill
import requests
from jupyter_kernel_client import JupyterKernelClient
from jupyter_server.gateway.managers import GatewayKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tornado.web import HTTPError

LIMIT = 60

# Any wait of a client for what cannot come ends within this.
SECONDS = 8


def cell(source, **metadata):
    return nbformat.v4.new_code_cell(source, metadata=metadata)


def book(*sources):
    cells = [source if hasattr(source, "source") else cell(source) for source in sources]
    kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})


def client(notebook, **more):
    # A warning of a lost output is a failure.
    more.setdefault("raise_on_iopub_timeout", True)
    return NotebookClient(notebook, kernel_manager_class=GatewayKernelManager, timeout=LIMIT, **more)


def rest(method, path):
    headers = {"Authorization": f"token {os.environ['IT_TOKEN']}"}
    answer = requests.request(method, os.environ["IT_URL"] + path, headers=headers, timeout=LIMIT)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def wait_for(what, look):
    deadline = time.monotonic() + LIMIT
    while not (found := look()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)
    return found


def text(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def kernel_client():
    """What the README of jupyter_kernel_client shows, and what else it can be asked."""
    known = {"server_url": os.environ["IT_URL"], "token": os.environ["IT_TOKEN"]}
    with JupyterKernelClient(**known) as kernel:
        reply = kernel.execute("import os\nprint(f\"Hey {os.environ.get('USER', 'John Smith')}.\")")
        # A kernel knows whose it is, also where the gateway was started without USER.
        user = pwd.getpwuid(os.getuid()).pw_name
        said = {"output_type": "stream", "name": "stdout", "text": f"Hey {user}.\n"}
        assert reply == {"execution_count": 1, "outputs": [said], "status": "ok"}, reply
        assert kernel.kernel_info["implementation"] == "ipython"
        assert [k["id"] for k in kernel.list_kernels()] == [kernel.id] and kernel.is_alive()
        assert kernel.last_activity is not None and kernel.execution_state == "idle"

        kernel.set_variable("x", {"a": [1, 2]})
        assert kernel.get_variable("x") == {"a": [1, 2]}
        assert [v["name"] for v in kernel.list_variables()] == ["x"], kernel.list_variables()
        failed = kernel.execute("1 / 0")
        assert failed["status"] == "error" and failed["outputs"][0]["ename"] == "ZeroDivisionError"
        # Over what other clients of the legacy framing take at once.
        large = kernel.execute("print('x' * 11_000_000)")
        assert sum(len(output["text"]) for output in large["outputs"]) == 11_000_001

        # Another client of the same kernel, which goes without ending it.
        other = JupyterKernelClient(**known, kernel_id=kernel.id)
        other.start()
        assert other.execute("x['a'][1]")["outputs"][0]["data"]["text/plain"] == "2"
        other.stop()
        assert kernel.is_alive()

        began = threading.Event()

        def interrupt():
            began.wait(LIMIT)
            kernel.interrupt()

        def hook(message):
            if message["msg_type"] == "stream":
                began.set()

        thread = threading.Thread(target=interrupt)
        thread.start()
        endless = "print('begun', flush=True)\nimport time\nwhile True: time.sleep(0.01)"
        reply = kernel.execute_interactive(endless, output_hook=hook, timeout=LIMIT)
        thread.join()
        assert reply["content"]["ename"] == "KeyboardInterrupt", reply

        kernel.restart()
        assert kernel.execute("'x' in dir()")["outputs"][0]["data"]["text/plain"] == "False"
    assert rest("GET", "/api/kernels") == []

    try:
        JupyterKernelClient(server_url=known["server_url"], token="wrong").start()
    except requests.HTTPError as error:
        assert error.response.status_code == 401
    else:
        raise AssertionError("a wrong token is let in")


def nbclient():
    notebook = book(
        "x = 6 * 7; x",
        "from IPython.display import display, HTML; h = display(HTML('<b>1</b>'), display_id=True)",
        "h.update(HTML('<b>2</b>'))",
        # In the framing of this client a message with buffers is a binary frame.
        "import ipywidgets, numpy; ipywidgets.Image(value=bytes(range(256)))",
        # Over what this client's server part takes at once: it comes in pieces.
        "print('x' * 11_000_000)",
        "import os; os.environ['KERNEL_FOO'], os.getcwd()",
    )
    os.environ["KERNEL_FOO"] = "bar"
    there = os.path.realpath(os.getcwd())
    client(notebook, resources={"metadata": {"path": there}}).execute()
    answer, rich, _, widget, large, env = notebook.cells
    assert answer.outputs[0].data["text/plain"] == "42"
    assert rich.outputs[0].data["text/html"] == "<b>2</b>", rich
    assert "application/vnd.jupyter.widget-view+json" in widget.outputs[0].data
    assert len(text(large)) == 11_000_001
    assert env.outputs[0].data["text/plain"] == repr(("bar", there)), env
    try:
        client(book("1 / 0", "print('never')")).execute()
    except CellExecutionError as error:
        assert error.ename == "ZeroDivisionError", error
    else:
        raise AssertionError("1 / 0 did not fail")
    assert rest("GET", "/api/kernels") == []


def much_output():
    """The reply of a cell comes with its output: nbclient waits 4 s for what is missing, and says so."""
    lines = 5_000
    notebook = book(
        f"for n in range({lines}): print(n, flush=True)",
        "from IPython.display import display, HTML\n"
        "for n in range(100): display(HTML(f'<i>{n}</i>' + ' ' * 100_000))",
        "print('y' * 20_000_000)",
    )
    warned = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())
    logging.getLogger("traitlets").addHandler(handler)
    client(notebook).execute()
    many, shown, large = notebook.cells
    assert text(many) == "".join(f"{n}\n" for n in range(lines))
    assert [o.data["text/html"].strip() for o in shown.outputs] == [f"<i>{n}</i>" for n in range(100)]
    assert len(text(large)) == 20_000_001
    assert not warned, warned


def papermill_job(n, begin):
    begin.wait(LIMIT)
    notebook = book(cell("n = 0", tags=["parameters"]), "print(sum(k * k for k in range(n)))",
                    "import os; print(os.getpid())")
    nbformat.write(notebook, f"in{n}.ipynb")
    papermill.execute_notebook(
        f"in{n}.ipynb", f"out{n}.ipynb", {"n": n}, kernel_manager_class=GatewayKernelManager,
        progress_bar=False,
    )


def papermills():
    """Four at once, each with a kernel of its own."""
    spawn = multiprocessing.get_context("spawn")
    begin = spawn.Barrier(4)
    jobs = [spawn.Process(target=papermill_job, args=(n, begin)) for n in range(1, 5)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(LIMIT)
        assert job.exitcode == 0, job
    done = [nbformat.read(f"out{n}.ipynb", 4) for n in range(1, 5)]
    printed = [[text(cell).strip() for cell in notebook.cells[-2:]] for notebook in done]
    assert [squares for squares, _ in printed] == ["0", "1", "5", "14"], printed
    assert len({pid for _, pid in printed}) == 4, printed
    assert rest("GET", "/api/kernels") == []


def ends(source, end):
    """A job whose cell says that it runs, and then something happens: its error, and how long that takes."""
    marker = f"begun{time.monotonic_ns()}"
    job = client(book(f"open({marker!r}, 'w').close()\n{source}", "print('never')"))
    job.resources["metadata"] = {"path": os.getcwd()}
    happened = []

    def happen():
        wait_for("the cell runs", lambda: os.path.exists(marker))
        end()
        happened.append(time.monotonic())

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        job.execute()
    except BaseException as error:
        ended = time.monotonic()
        thread.join()
        seconds = ended - happened[0]
        print(f"{error!r} after {seconds:.1f} s")
        assert seconds < SECONDS, (error, seconds)
        assert not text(job.nb.cells[1])
        return error
    raise AssertionError("it did not fail")


def kernels():
    return [kernel["id"] for kernel in rest("GET", "/api/kernels")]


def deaths():
    sleep = "import time; time.sleep(600)"
    # DELETE by somebody else.
    error = ends(sleep, lambda: rest("DELETE", f"/api/kernels/{kernels()[0]}"))
    assert isinstance(error, (CellExecutionError, RuntimeError)), error
    # Killed: the cell that ran says why, and the kernel is another.
    error = ends("import os, signal, time; os.kill(os.getpid(), 9); time.sleep(600)", lambda: None)
    assert isinstance(error, CellExecutionError) and "SIGKILL" in str(error), error
    for kernel in kernels():
        rest("DELETE", f"/api/kernels/{kernel}")


def mortal():
    """Killed beyond its restarts while a job goes on: cells may fail, but the job does not hang."""
    notebook = book(*["import os; os.kill(os.getpid(), 9)"] * 20)
    job = client(notebook, allow_errors=True)
    began = time.monotonic()
    try:
        job.execute()
    except RuntimeError as error:
        print(repr(error))
    else:
        raise AssertionError("a kernel that is dead for good runs cells")
    states = [kernel["execution_state"] for kernel in rest("GET", "/api/kernels")]
    print(states, time.monotonic() - began)
    failed = [cell for cell in notebook.cells if cell.outputs]
    assert failed and all("SIGKILL" in cell.outputs[0].evalue for cell in failed), notebook.cells


def ended_from_outside():
    """Waits in a cell for what tests/it/headless.rs does to it, which leaves a file when it is done."""

    def end():
        open("begun", "w").close()
        wait_for("it is done", lambda: os.path.exists("done"))

    error = ends("import time; time.sleep(600)", end)
    # Its last word is that it could not end its kernel.
    assert isinstance(error, HTTPError) and error.status_code == 401, error
    assert isinstance(error.__context__, RuntimeError), error.__context__


if __name__ == "__main__":
    globals()[sys.argv[1]]()
