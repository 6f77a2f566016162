"""jupyter_kernel_test's suite, of a kernel behind nb over REST and WebSocket: `python -m unittest
kernel_tests_http`. The client is jupyter_kernel_client's."""

import os

from jupyter_kernel_client.manager import KernelHttpManager
from kernel_tests import Behind


class OverHttp(Behind):
    @classmethod
    def setUpClass(cls):
        cls.km = KernelHttpManager(server_url=os.environ["IT_URL"], token=os.environ["IT_TOKEN"])
        cls.km.start_kernel(name=cls.kernel_name)
        cls.kc = cls.km.client
        cls.kc.start_channels()
        cls.kc.wait_for_ready(timeout=60)

    @classmethod
    def tearDownClass(cls):
        cls.kc.stop_channels()
        cls.km.shutdown_kernel(now=True)


# Else it is found here too, and starts a kernel in its own way.
del Behind
