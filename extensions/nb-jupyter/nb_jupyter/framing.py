"""The two WebSocket framings of Jupyter messages, and the way from one to the other.

v1: a little-endian u64 count, as many offsets, then channel, header, parent header, metadata, content and buffers.
Legacy: a JSON object; with buffers a big-endian u32 count, as many offsets, that object, the buffers.

Pure. From v1 to legacy the JSON is spliced, never read; the other way it has to be.
"""

from __future__ import annotations

import json
import struct

V1 = "v1.kernel.websocket.jupyter.org"

_PARTS = ("header", "parent_header", "metadata", "content")


class FramingError(ValueError):
    """A payload that is not in the framing that it should be in."""


def to_legacy(payload: bytes) -> str | bytes:
    """A v1 payload as a legacy one: text, or bytes if there are buffers."""
    channel, parts, buffers = _take_apart_v1(payload)
    try:
        ids = json.loads(parts[0])
        fields = [f'"{name}":{part.decode("utf-8")}' for name, part in zip(_PARTS, parts, strict=True)]
        for name in ("msg_id", "msg_type"):
            fields.append(f'"{name}":{json.dumps(ids[name])}')
    except (ValueError, KeyError, TypeError) as error:
        raise FramingError(f"a message without a readable header: {error!r}") from error
    fields.append(f'"buffers":[],"channel":{json.dumps(channel)}')
    text = "{" + ",".join(fields) + "}"
    if not buffers:
        return text
    regions = [text.encode("utf-8"), *buffers]
    offsets = [4 * (len(regions) + 1)]
    for region in regions[:-1]:
        offsets.append(offsets[-1] + len(region))
    try:
        table = struct.pack(f"!{len(regions) + 1}I", len(regions), *offsets)
    except struct.error as error:
        raise FramingError("a message over 4 GiB") from error
    return b"".join([table, *regions])


def to_v1(payload: str | bytes) -> bytes:
    """A legacy payload as a v1 one. A missing channel means shell."""
    text, buffers = payload, []
    # A blob may come as text: it begins with a byte that no JSON begins with.
    if isinstance(payload, bytes) and not payload.lstrip().startswith(b"{"):
        text, *buffers = _regions(payload)
    try:
        message = json.loads(text)
        channel = message.get("channel") or "shell"
        parts = [
            json.dumps(message.get(name) or {}, ensure_ascii=False).encode("utf-8", "surrogatepass")
            for name in _PARTS
        ]
        regions = [channel.encode("utf-8"), *parts, *buffers]
    except (ValueError, AttributeError, TypeError) as error:
        raise FramingError(f"not a message: {error!r}") from error
    count = len(regions) + 1
    offsets = [8 * (count + 1)]
    for region in regions:
        offsets.append(offsets[-1] + len(region))
    return b"".join([struct.pack(f"<{count + 1}Q", count, *offsets), *regions])


def _take_apart_v1(payload: bytes) -> tuple[str, list[bytes], list[bytes]]:
    try:
        (count,) = struct.unpack_from("<Q", payload)
        if count > len(payload) // 8:
            raise FramingError("the offset table is longer than the payload")
        offsets = struct.unpack_from(f"<{count}Q", payload, 8)
        regions = [payload[start:end] for start, end in zip(offsets, offsets[1:], strict=False)]
        channel = regions[0].decode("utf-8")
    except (struct.error, IndexError, ValueError) as error:
        raise FramingError(f"not in the v1 framing: {error}") from error
    parts = regions[1:5]
    if len(parts) < len(_PARTS):
        raise FramingError("a message with too few parts")
    return channel, parts, regions[5:]


def _regions(payload: bytes) -> list[bytes]:
    try:
        (count,) = struct.unpack_from("!I", payload)
        if not 0 < count < len(payload) // 4:
            raise FramingError("the offset table is longer than the payload")
        offsets = [*struct.unpack_from(f"!{count}I", payload, 4), len(payload)]
    except struct.error as error:
        raise FramingError(f"not in the legacy framing: {error}") from error
    return [payload[start:end] for start, end in zip(offsets, offsets[1:], strict=False)]
