"""A real kernel that is not IPython: it prints what it is given or what it is answered, or fails when told to.

Its sockets are as ZeroMQ makes them: of two that come with one identity, the second is not heard.
"""

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel


class PlainKernel(Kernel):
    implementation = "plain"
    implementation_version = "1"
    banner = "plain"
    language_info = {"name": "plain", "mimetype": "text/plain", "file_extension": ".txt"}

    def do_execute(self, code, silent, store_history=True, user_expressions=None,
                   allow_stdin=False, *, cell_meta=None, cell_id=None):
        if code.strip() == "fail":
            return {"status": "error", "ename": "Told", "evalue": "to", "traceback": [],
                    "execution_count": self.execution_count}
        if code.strip() == "ask":
            self._allow_stdin = allow_stdin
            code = self.raw_input("name?")
        if not silent:
            text = {"name": "stdout", "text": code}
            self.send_response(self.iopub_socket, "stream", text)
        return {"status": "ok", "execution_count": self.execution_count, "payload": [],
                "user_expressions": {}}


class PlainKernelApp(IPKernelApp):
    def init_sockets(self):
        super().init_sockets()
        for router in (self.shell_socket, self.stdin_socket, self.control_socket):
            router.router_handover = 0


PlainKernelApp.launch_instance(kernel_class=PlainKernel)
