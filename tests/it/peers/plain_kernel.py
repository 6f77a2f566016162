"""A real kernel that is not IPython: it prints what it is given, or fails when told to."""

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
        if not silent:
            text = {"name": "stdout", "text": code}
            self.send_response(self.iopub_socket, "stream", text)
        return {"status": "ok", "execution_count": self.execution_count, "payload": [],
                "user_expressions": {}}


IPKernelApp.launch_instance(kernel_class=PlainKernel)
