"""The framings against jupyter_server's own reading and writing of them. Run with python, without pytest.

`cargo test --test it framing` runs it in Lab's environment.
"""

import json
import random

from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)
from nb_jupyter.framing import FramingError, to_legacy, to_v1

PARTS = ("header", "parent_header", "metadata", "content")


def message(buffers):
    return {
        "header": {"msg_id": 'a"b', "msg_type": "comm_msg", "n": 12345678901234567890},
        "parent_header": {},
        "metadata": {"é": "\u2028"},
        "content": {"data": {"x": [1.5, None, True]}},
        "buffers": buffers,
        "channel": "iopub",
    }


def v1(msg):
    parts = [json.dumps(msg[name]).encode() for name in PARTS]
    return serialize_msg_to_ws_v1([*parts, *msg["buffers"]], msg["channel"])


def both_ways(buffers):
    msg = message(buffers)
    legacy = to_legacy(v1(msg))
    if buffers:
        read = deserialize_binary_message(legacy)
    else:
        read = json.loads(legacy)
    assert {name: read[name] for name in msg} == msg, read
    assert (read["msg_id"], read["msg_type"]) == ('a"b', "comm_msg")
    sent = serialize_binary_message(msg) if buffers else json.dumps(msg)
    channel, parts = deserialize_msg_from_ws_v1(to_v1(sent))
    assert channel == "iopub"
    assert [json.loads(part) for part in parts[:4]] == [msg[name] for name in PARTS]
    assert parts[4:] == buffers


def nothing_else_is_raised(noise):
    for translate in (to_legacy, to_v1):
        for _ in range(20_000):
            whole = bytearray(v1(message([b"\xff"])) if noise.random() < 0.5 else serialize_binary_message(message([b"\xff"])))
            for _ in range(noise.randrange(4)):
                whole[noise.randrange(min(80, len(whole)))] = noise.randrange(256)
            try:
                translate(bytes(whole[: noise.randrange(len(whole) + 1)]))
            except FramingError:
                pass
    for text in ("", "[]", "null", "{", '{"channel":1}', "1"):
        try:
            to_v1(text)
        except FramingError:
            pass


both_ways([])
both_ways([b"\xff\x00", b"", b"x" * 1000])
nothing_else_is_raised(random.Random(7))
assert deserialize_msg_from_ws_v1(to_v1('{"header":{"a":1}}'))[0] == "shell"
print("ok")
