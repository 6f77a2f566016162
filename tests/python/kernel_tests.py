"""jupyter_kernel_test's suite, of a kernel behind nb: `python -m unittest kernel_tests`."""

import os

import jupyter_kernel_test


class Patient:
    def execute_helper(self, *arguments, **more):
        """The suite waits 0.1 s for an idle, which says more of a loaded machine than of a kernel."""
        channel = self.kc.iopub_channel
        get_msg = channel.get_msg
        channel.get_msg = lambda timeout: get_msg(timeout=max(timeout, 10))
        try:
            return super().execute_helper(*arguments, **more)
        finally:
            channel.get_msg = get_msg


class Behind(Patient, jupyter_kernel_test.KernelTests):
    kernel_name = os.environ["IT_KERNEL"]
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>t</b>'))",
         "mime": "text/html"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"
