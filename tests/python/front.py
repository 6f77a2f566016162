"""Jupyter clients that know no gateway, before a kernel of nb: `front.py CASE KERNEL_NAME`.

Run by tests/it/front.rs; each case fails by an exception.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time

import nbformat
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

KERNEL = sys.argv[2]
LIMIT = 60


def cell(source):
    return nbformat.v4.new_code_cell(source)


def front_pid(km):
    return km.provisioner.process.pid


def kernel_pid(kc):
    return int(value(kc, "__import__('os').getpid()"))


def value(kc, expression):
    reply = kc.execute_interactive("", user_expressions={"x": expression}, timeout=LIMIT)
    return reply["content"]["user_expressions"]["x"]["data"]["text/plain"]


def run(kc, code, **more):
    """The reply and what was printed."""
    printed = []

    def output(message):
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = kc.execute_interactive(code, output_hook=output, timeout=LIMIT, **more)
    return reply["content"], "".join(printed)


def wait_busy(kc, started):
    """Until the cell has said that it runs."""
    deadline = time.monotonic() + LIMIT
    seen = []
    while time.monotonic() < deadline:
        try:
            message = kc.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if message["msg_type"] == "stream" and started in message["content"]["text"]:
            return
        seen.append((message["msg_type"], message["content"]))
    raise TimeoutError(f"{started}; seen: {seen}")


def reply_to(kc, msg_id):
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        message = kc.get_shell_msg(timeout=LIMIT)
        if message["parent_header"].get("msg_id") == msg_id:
            return message["content"]
    raise TimeoutError(msg_id)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pid):
    deadline = time.monotonic() + LIMIT
    while is_running(pid):
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.01)


def notebook():
    book = nbformat.v4.new_notebook(
        cells=[
            cell("for n in range(2000): print(n, flush=True)"),
            cell("x = 6 * 7; x"),
            cell("from IPython.display import display, HTML; display(HTML('<b>bold</b>'))"),
            cell("import sys; print('to stderr', file=sys.stderr)"),
            cell("'x' * 3_000_000"),
        ]
    )
    client = NotebookClient(book, kernel_name=KERNEL, timeout=LIMIT)
    client.execute()
    texts, answer, rich, err, large = [c.outputs for c in book.cells]
    printed = "".join(o.text for o in texts)
    assert printed == "".join(f"{n}\n" for n in range(2000)), printed[-200:]
    assert answer[0].data["text/plain"] == "42", answer
    assert rich[0].data["text/html"] == "<b>bold</b>", rich
    assert err[0].name == "stderr" and err[0].text == "to stderr\n", err
    assert len(large[0].data["text/plain"]) == 3_000_002
    # What fails fails as it does with any kernel.
    book = nbformat.v4.new_notebook(cells=[cell("1 / 0"), cell("print('never')")])
    try:
        NotebookClient(book, kernel_name=KERNEL, timeout=LIMIT).execute()
    except CellExecutionError as error:
        assert error.ename == "ZeroDivisionError", error
    else:
        raise AssertionError("1 / 0 did not fail")


def interrupts():
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    try:
        endless = "print('begun', flush=True)\nimport time\nwhile True: time.sleep(0.01)"
        # As a message on the control channel, and as the signal that other clients send.
        for interrupt in (km.interrupt_kernel, lambda: os.kill(front_pid(km), signal.SIGINT)):
            # Else ipykernel aborts what it hears right after the error, the next round with it.
            msg_id = kc.execute(endless, stop_on_error=False)
            wait_busy(kc, "begun")
            interrupt()
            content = reply_to(kc, msg_id)
            assert content["ename"] == "KeyboardInterrupt", content
        # It is answered, and an idle kernel is not ended by one.
        request = kc.session.msg("interrupt_request", {})
        kc.control_channel.send(request)
        reply = kc.get_control_msg(timeout=LIMIT)
        while reply["parent_header"]["msg_id"] != request["header"]["msg_id"]:
            reply = kc.get_control_msg(timeout=LIMIT)
        assert reply["msg_type"] == "interrupt_reply" and reply["content"]["status"] == "ok", reply
        assert value(kc, "1 + 1") == "2"
    finally:
        kc.stop_channels()
        km.shutdown_kernel()


def restart():
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    try:
        before, front = kernel_pid(kc), front_pid(km)
        run(kc, "x = 1")
        ports = km.ports
        began = time.monotonic()
        for now in (False, True):
            km.restart_kernel(now=now)
            kc.wait_for_ready(timeout=LIMIT)
            after = kernel_pid(kc)
            assert after != before and front_pid(km) != front and km.ports == ports
            assert not is_running(before), "two kernels"
            assert value(kc, "'x' in dir()") == "False"
            before, front = after, front_pid(km)
            run(kc, "x = 1")
        print(json.dumps({"seconds": time.monotonic() - began}))
    finally:
        kc.stop_channels()
        km.shutdown_kernel()
    wait_gone(before)


def stdin():
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    other = km.client()
    # A client of its own, with a session of its own.
    other.session = type(kc.session)(key=km.session.key)
    other.start_channels()
    other.wait_for_ready(timeout=LIMIT)
    try:

        def answer(message):
            assert message["content"]["prompt"] == "name? ", message
            kc.input("Ada")

        content, printed = run(
            kc, "print('hello', input('name? '))", allow_stdin=True, stdin_hook=answer
        )
        assert content["status"] == "ok" and printed == "hello Ada\n", (content, printed)
        # It asks whoever runs the cell.
        assert not other.stdin_channel.msg_ready()

        def theirs(message):
            other.input(message["content"]["prompt"] + "Bob")

        _, printed = run(other, "print(input('> '))", allow_stdin=True, stdin_hook=theirs)
        assert printed == "> Bob\n", printed
        assert not kc.stdin_channel.msg_ready()
        # Replies go to who asked, whoever else asks.
        ids = [(client, client.execute(f"{n}")) for n in range(50) for client in (kc, other)]
        for client in (kc, other):
            mine = [msg_id for of, msg_id in ids if of is client]
            got = [client.get_shell_msg(timeout=LIMIT)["parent_header"]["msg_id"] for _ in mine]
            assert got == mine
        # And what is printed to all.
        msg_id = kc.execute("print('to all')")
        wait_busy(other, "to all")
        reply_to(kc, msg_id)
    finally:
        other.stop_channels()
        kc.stop_channels()
        km.shutdown_kernel()


def deaths():
    """A kernel that dies is started again behind the same sockets; one that stays dead ends the front."""
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    try:
        before, front = kernel_pid(kc), front_pid(km)
        content, _ = run(kc, "import os; os.kill(os.getpid(), 9)")
        assert content["status"] == "error" and "SIGKILL" in content["evalue"], content
        assert kernel_pid(kc) != before and front_pid(km) == front
        process = km.provisioner.process
        deadline = time.monotonic() + LIMIT
        while process.poll() is None:
            assert time.monotonic() < deadline, "it is started again for ever"
            kc.execute("import os; os.kill(os.getpid(), 9)")
            try:
                kc.get_shell_msg(timeout=1)
            except queue.Empty:
                pass
        assert process.returncode == 1, process.returncode
    finally:
        kc.stop_channels()
        km.shutdown_kernel()
    wait_gone(front)


def orphaned():
    """A kernel whose supervisor dies keeps its variables and what runs, behind the same sockets."""
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    try:
        run(kc, "x = 41; import time")
        front, supervisor = front_pid(km), int(value(kc, "__import__('os').getppid()"))
        started = kc.execute("print('on', flush=True); time.sleep(1); x += 1")
        wait_busy(kc, "on")
        os.kill(supervisor, signal.SIGKILL)
        assert reply_to(kc, started)["status"] == "ok"
        assert value(kc, "x") == "42"
        assert front_pid(km) == front
    finally:
        kc.stop_channels()
        km.shutdown_kernel()
    wait_gone(front)


def long():
    """Prints for as long as the file that the environment names is there, and counts what comes."""
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    try:
        print("ready", flush=True)
        content, printed = run(kc, """
import os, time
n = 0
while os.path.exists(os.environ["IT_GO_ON"]):
    print(n, flush=True)
    n += 1
    time.sleep(0.0005)
""")
        lines = printed.split()
        assert content["status"] == "ok", content
        expected = [str(n) for n in range(int(value(kc, "n")))]
        assert lines == expected, f"{len(lines)} lines, {len(set(lines))} different, of {len(expected)}"
        print(json.dumps({"lines": len(lines)}), flush=True)
    finally:
        kc.stop_channels()
        km.shutdown_kernel()


def peak_mib(pid):
    """The most that a process has held, without its program."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return (int(fields["VmHWM"].split()[0]) - int(fields["RssFile"].split()[0])) // 1024


def unread():
    """300 MB while the client reads nothing: all of it is there after, and was not in the front."""
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    try:
        msg_id = kc.execute("""
from IPython.display import HTML, display
for n in range(3000):
    display(HTML(f"{n} " + "x" * 100_000))
open("done", "w").close()
""")
        deadline = time.monotonic() + 2 * LIMIT
        while not os.path.exists("done"):
            assert time.monotonic() < deadline, "the kernel does not get rid of its output"
            time.sleep(0.05)
        shown = []
        while True:
            message = kc.get_iopub_msg(timeout=LIMIT)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            if message["msg_type"] == "display_data":
                shown.append(int(message["content"]["data"]["text/html"].split()[0]))
            elif message["content"].get("execution_state") == "idle":
                break
        assert shown == list(range(3000)), f"{len(shown)} of 3000"
        assert reply_to(kc, msg_id)["status"] == "ok"
        peak = peak_mib(front_pid(km))
        assert peak < 64, f"{peak} MiB"
    finally:
        kc.stop_channels()
        km.shutdown_kernel()


def line_to(port):
    """The port of a TCP line to this one, which SIGUSR1 cuts."""
    listener = socket.create_server(("127.0.0.1", 0))
    ends = []

    def pump(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        cut([one, other])

    def cut(ends):
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            one, _ = listener.accept()
            try:
                other = socket.create_connection(("127.0.0.1", port))
            except OSError:
                # It is not bound yet: ZeroMQ comes again.
                one.close()
                continue
            ends[:] = [one, other]
            for pair in [(one, other), (other, one)]:
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    signal.signal(signal.SIGUSR1, lambda *_: cut(ends))
    return listener.getsockname()[1]


def counted():
    """Runs the cell of the third argument once for each line that comes in, and gives all that it printed."""
    km = KernelManager(kernel_name=KERNEL)
    km.start_kernel()
    kc = km.blocking_client()
    kc.iopub_port = line_to(km.iopub_port)
    kc.start_channels()
    try:
        kc.wait_for_ready(timeout=LIMIT)
        print("ready", front_pid(km), flush=True)
        for _ in sys.stdin:
            printed = []

            def output(message):
                if message["msg_type"] == "stream":
                    printed.append(message["content"]["text"])
                    if printed[-1].endswith("line 9\n"):
                        print("fault", flush=True)

            reply = kc.execute_interactive(sys.argv[3], output_hook=output, timeout=LIMIT)
            assert reply["content"]["status"] == "ok", reply
            print("counted", json.dumps("".join(printed)), flush=True)
    finally:
        kc.stop_channels()
        km.shutdown_kernel()


def kept():
    """Starts a kernel and is killed: what is known of it goes to stdout."""
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    known = {"client": os.getpid(), "front": front_pid(km), "kernel": kernel_pid(kc)}
    print(json.dumps(known), flush=True)
    signal.pause()


def existing():
    """jupyter console, on the sockets of a kernel that another client has started."""
    km, kc = start_new_kernel(kernel_name=KERNEL, startup_timeout=LIMIT)
    try:
        run(kc, "answer = 6 * 7")
        console = [sys.executable, "-m", "jupyter_console", "--simple-prompt"]
        console += ["--existing", km.connection_file]
        done = subprocess.run(
            console, input="print('is', answer)\nexit(keep_kernel=True)\n", capture_output=True, text=True,
            timeout=LIMIT,
        )
        assert "is 42" in done.stdout, (done.stdout, done.stderr)
        assert value(kc, "answer") == "42"
    finally:
        kc.stop_channels()
        km.shutdown_kernel()


globals()[sys.argv[1]]()
