"""What is acknowledged to nb, and what is not. Run with python, without pytest.

`cargo test --test it companions` runs it in Lab's environment.
"""

from concurrent.futures import Future

from nb_jupyter.connection import NbWebSocketConnection


class Gateway:
    """A connection to nb that is there."""

    is_nb = True
    asked = None

    def __init__(self) -> None:
        self.told = []

    def write_message(self, message):
        self.told.append(message)
        return Future()


class Browser:
    def __init__(self) -> None:
        self.pings = []

    def ping(self, data) -> None:
        self.pings.append(data)


connection = NbWebSocketConnection.__new__(NbWebSocketConnection)
browser = Browser()
NbWebSocketConnection.websocket_handler = browser
first = Gateway()
connection._upstream = first
connection._pinged(first, b"7")
connection._browser_has(b"7")
connection._browser_has(b"")
assert (browser.pings, first.told) == ([b"7"], ['{"nb":{"ack":7}}'])
connection._pinged(first, b"9")

# The gateway ends, and with it maybe the numbers; the browser answers late.
second = Gateway()
connection._upstream = second
connection._browser_has(b"9")
assert second.told == [], second.told
connection._pinged(second, b"5")
connection._browser_has(b"9")
connection._browser_has(b"5")
assert second.told == ['{"nb":{"ack":5}}'], second.told
print("ok")
