"""Maps that do what their input says."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator

from pynumaflow import batchmapper, mapper, mapstreamer

FAIL_TAG = "U+005C__FAIL__"

# The latches by name, kept until the process ends.
latches: defaultdict[bytes, asyncio.Event] = defaultdict(asyncio.Event)


async def answer(message: type, keys: list[str], datum) -> AsyncIterator:
    """Yields what the value of `datum` asks for; `message` is the class that the SDK has for outputs of this kind."""
    match datum.value.partition(b" "):
        case b"empty", b"", _:
            return
        case b"drop", b"", _:
            yield message.to_drop()
            return
        case b"fail", b"", _:
            yield message(b"fail")
            yield message(b"", tags=[FAIL_TAG])
            return
        case b"times", b"", _:
            yield message(f"{datum.event_time} {datum.watermark}".encode())
            return
        # There is no nack, and to raise is the only way to fail. The kinds that have means for the others look at them first.
        case (b"nack" | b"metadata" | b"skip", b"", _) | (b"error", b" ", _):
            yield message(b"not offered")
            return
        case b"many", b" ", count:
            for number in range(int(count)):
                yield message(b"%d" % number)
            return
        case b"many-then-panic", b" ", count:
            for number in range(int(count)):
                yield message(b"%d" % number)
            raise RuntimeError("the suite asked for this")
        case b"first", b" ", name:
            yield message(b"first")
            await latches[name].wait()
            yield message(b"last")
            return
        case b"panic", b" ", text:
            raise RuntimeError(text.decode())
        case b"hold", b" ", name:
            await latches[name].wait()
        case b"release", b" ", name:
            latches[name].set()
    yield message(datum.value, keys)


async def map_unary(keys: list[str], datum: mapper.Datum) -> mapper.Messages:
    # Only this kind has metadata.
    if datum.value == b"metadata":
        metadata = mapper.UserMetadata()
        metadata.add_key("conformance", "bytes", b"\x00\xff\x80")
        return mapper.Messages(mapper.Message(b"metadata", user_metadata=metadata))
    return mapper.Messages(*[output async for output in answer(mapper.Message, keys, datum)])


def map_stream(keys: list[str], datum: mapstreamer.Datum) -> AsyncIterator[mapstreamer.Message]:
    return answer(mapstreamer.Message, keys, datum)


async def map_batch(datums: AsyncIterable[batchmapper.Datum]) -> batchmapper.BatchResponses:
    async def answer_one(datum: batchmapper.Datum) -> batchmapper.BatchResponse:
        outputs = [output async for output in answer(batchmapper.Message, datum.keys, datum)]
        return batchmapper.BatchResponse.with_msgs(datum.id, outputs)

    # The messages of a batch are answered concurrently, while more of them arrive.
    answers = [asyncio.create_task(answer_one(datum)) async for datum in datums if datum.value != b"skip"]
    return batchmapper.BatchResponses(*await asyncio.gather(*answers))
