"""The handler contract of the conformance suite, written with pynumaflow's synchronous server of unary maps."""

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator

# How many handlers run at a time; the SDK looks at it when it is imported.
os.environ.setdefault("MAX_THREADS", "512")

from pynumaflow.mapper import Datum, MapServer, Message, Messages, UserMetadata

FAIL_TAG = "U+005C__FAIL__"

# The latches by name, kept until the process ends; the lock is for making one, which two threads may do at a time.
latches: defaultdict[bytes, threading.Event] = defaultdict(threading.Event)
making = threading.Lock()


def latch(name: bytes) -> threading.Event:
    with making:
        return latches[name]


def answer(keys: list[str], datum: Datum) -> Iterator[Message]:
    match datum.value.partition(b" "):
        case b"empty", b"", _:
            return
        case b"drop", b"", _:
            yield Message.to_drop()
            return
        case b"fail", b"", _:
            yield Message(b"fail")
            yield Message(b"", tags=[FAIL_TAG])
            return
        case b"times", b"", _:
            yield Message(f"{datum.event_time} {datum.watermark}".encode())
            return
        case b"metadata", b"", _:
            metadata = UserMetadata()
            metadata.add_key("conformance", "bytes", b"\x00\xff\x80")
            yield Message(b"metadata", user_metadata=metadata)
            return
        # There is no nack, and to raise is the only way to fail.
        case (b"nack" | b"skip", b"", _) | (b"error", b" ", _):
            yield Message(b"not offered")
            return
        case b"many", b" ", count:
            yield from (Message(b"%d" % number) for number in range(int(count)))
            return
        case b"many-then-panic", b" ", _:
            # No output leaves before a handler has returned.
            raise RuntimeError("the suite asked for this")
        case b"first", b" ", name:
            yield Message(b"first")
            latch(name).wait()
            yield Message(b"last")
            return
        case b"panic", b" ", text:
            raise RuntimeError(text.decode())
        case b"hold", b" ", name:
            latch(name).wait()
        case b"release", b" ", name:
            latch(name).set()
    yield Message(datum.value, keys)


def map_unary(keys: list[str], datum: Datum) -> Messages:
    return Messages(*answer(keys, datum))


if __name__ == "__main__":
    kind = os.environ.get("CONFORMANCE_KIND", "")
    if kind != "map-unary":
        print(f"CONFORMANCE_KIND is {kind!r}, which this peer does not serve", file=sys.stderr)
        sys.exit(3)
    # What the environment does not set is the SDK's to decide.
    paths = {"sock_path": "CONFORMANCE_SOCKET", "server_info_file": "CONFORMANCE_SERVER_INFO"}
    MapServer(map_unary, **{name: os.environ[key] for name, key in paths.items() if key in os.environ}).start()
