"""A source of numbered records."""

import asyncio
import time
from datetime import datetime, timezone

from pynumaflow.shared.asynciter import NonBlockingIterator
from pynumaflow.sourcer import (
    AckRequest,
    Message,
    NackRequest,
    Offset,
    PartitionsResponse,
    PendingResponse,
    ReadRequest,
    Sourcer,
    get_default_partitions,
)

RECORDS = 1000
PARTITIONS = 2
# Every offset begins with these bytes, which are no text.
PREFIX = b"\x00\xff\x80"


class SilentSource(Sourcer):
    """Says nothing of how much is pending and of its partitions, as far as it need not."""

    def __init__(self):
        # The records that a read can deliver.
        self.unread = set(range(RECORDS))
        # Delivered, and neither acked nor nacked.
        self.delivered: set[int] = set()
        # Set, and made anew, when records were given back.
        self.nacked = asyncio.Event()

    async def read_handler(self, datum: ReadRequest, output: NonBlockingIterator):
        # To raise is the only way to fail.
        if datum.num_records in (997, 998):
            raise RuntimeError("the suite asked for this")
        deadline = time.monotonic() + datum.timeout_in_ms / 1000
        for _ in range(datum.num_records):
            while not self.unread:
                try:
                    await asyncio.wait_for(self.nacked.wait(), deadline - time.monotonic())
                except asyncio.TimeoutError:
                    return
            number = min(self.unread)
            self.unread.remove(number)
            self.delivered.add(number)
            await output.put(message(number))

    async def ack_handler(self, ack_request: AckRequest):
        for offset in ack_request.offsets:
            if offset.offset == PREFIX + b"panic":
                raise RuntimeError("the suite asked for this")
            number = number_of(offset)
            self.delivered.discard(number)
            self.unread.discard(number)

    async def nack_handler(self, nack_request: NackRequest):
        # The SDK does not hand the options on.
        for offset in nack_request.offsets:
            number = number_of(offset)
            if number in self.delivered:
                self.delivered.remove(number)
                self.unread.add(number)
        self.nacked.set()
        self.nacked = asyncio.Event()

    async def pending_handler(self) -> PendingResponse:
        return PendingResponse(count=-1)

    async def active_partitions_handler(self) -> PartitionsResponse:
        return PartitionsResponse(partitions=get_default_partitions())


class Source(SilentSource):
    async def pending_handler(self) -> PendingResponse:
        return PendingResponse(count=len(self.unread))

    async def active_partitions_handler(self) -> PartitionsResponse:
        return PartitionsResponse(partitions=list(range(PARTITIONS)))

    async def total_partitions_handler(self) -> int | None:
        return PARTITIONS


def message(number: int) -> Message:
    return Message(
        payload=b"%d" % number,
        offset=Offset(PREFIX + number.to_bytes(2, "big"), number % PARTITIONS),
        event_time=datetime.fromtimestamp(number, timezone.utc),
    )


def number_of(offset: Offset) -> int | None:
    number = offset.offset.removeprefix(PREFIX)
    return int.from_bytes(number, "big") if len(number) == 2 else None
