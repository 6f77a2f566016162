"""jupyter_kernel_test's suite, of the Scala kernel behind nb: `python -m unittest kernel_tests_scala`."""

import unittest

import jupyter_kernel_test
from kernel_tests import Patient


class Scala(Patient, jupyter_kernel_test.KernelTests):
    """What does not wait for a JVM is answered without one, so it is there first."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kc.execute_interactive("1", timeout=120)

    kernel_name = "nb-scala"
    language_name = "scala"
    file_extension = ".sc"
    code_hello_world = 'println("hello, world")'
    code_stderr = 'System.err.println("oops")'
    completion_samples = [{"text": "Seq(1).siz", "matches": {"size", "sizeIs", "sizeCompare"}}]
    complete_code_samples = ["1", "def f(x: Int): Int = {\n  x * 2\n}"]
    incomplete_code_samples = ["def f(x: Int): Int = {", "Seq(1,"]
    invalid_code_samples = ["import = 7q"]
    code_generate_error = 'sys.error("no")'
    code_execute_result = [{"code": "val x = 6 * 7", "result": "x: Int = 42"}]
    code_display_data = [{"code": 'nb.Display.html("<b>t</b>")', "mime": "text/html"}]
    code_history_pattern = "val*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "println"


if __name__ == "__main__":
    unittest.main()
