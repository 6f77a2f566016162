"""What is generic in jupyter_kernel_test, of kernels of other languages behind nb: `python -m unittest kernel_tests_languages`."""

import unittest

import jupyter_kernel_test
from kernel_tests import Patient


class R(Patient, jupyter_kernel_test.KernelTests):
    kernel_name = "nb-ir"
    language_name = "R"
    file_extension = ".r"
    code_hello_world = "cat('hello, world\\n')"
    code_stderr = "message('oops')"
    completion_samples = [{"text": "read.cs", "matches": {"read.csv", "read.csv2"}}]
    complete_code_samples = ["1", "f <- function(x) {\n  x * 2\n}"]
    incomplete_code_samples = ["f <- function(x) {", "1 +"]
    invalid_code_samples = ["1 +* 1"]
    code_generate_error = "stop('no')"
    code_execute_result = []
    code_display_data = [{"code": "6 * 7", "mime": "text/plain"}]
    code_inspect_sample = "print"


class Deno(Patient, jupyter_kernel_test.KernelTests):
    kernel_name = "nb-deno"
    language_name = "typescript"
    file_extension = ".ts"
    # Deno publishes what is printed and displayed from tasks of its own, which the idle of a short cell can overtake.
    wait = "await new Promise(done => setTimeout(done, 500))"
    code_hello_world = f"console.log('hello, world'); {wait}"
    code_stderr = f"console.error('oops'); {wait}"
    completion_samples = [{"text": "Math.hyp", "matches": {"hypot"}}]
    complete_code_samples = ["1 + 1"]
    incomplete_code_samples = ["function f() {"]
    code_generate_error = "throw new Error('no')"
    code_display_data = [
        {"code": f"await Deno.jupyter.display({{'text/html': '<b>t</b>'}}, {{raw: true}}); {wait}", "mime": "text/html"},
    ]


if __name__ == "__main__":
    unittest.main()
