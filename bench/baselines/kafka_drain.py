"""Floor K, second half: `python -m bench.baselines.kafka_drain SERVERS TOPIC URL`.

Read a batch, POST it with 256 calls in flight, commit after the batch. As many calls as one of our workers may have at
a provider: with 64, a provider that takes 50 ms would bound the floor at 1,280 messages a second, and its latency at
half of its load would be that of its own backlog.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import aiohttp
import uvloop
from aiokafka import AIOKafkaConsumer

from bench.baselines.kafka_login import login

IN_FLIGHT = 256
HEADERS = {"Authorization": "Bearer re_floor", "Content-Type": "application/json"}


async def drain(servers: str, topic: str, url: str) -> None:
    """Until shown to end."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        **login(),
        group_id="floor-k",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    room = asyncio.Semaphore(IN_FLIGHT)
    await consumer.start()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

            async def post(body: bytes) -> None:
                async with room, session.post(url, data=body, headers=HEADERS) as answer:
                    await answer.read()

            while not stop.is_set():
                batch = await consumer.getmany(timeout_ms=200, max_records=500)
                values = [record.value for records in batch.values() for record in records]
                if values:
                    ends = await asyncio.gather(*map(post, values), return_exceptions=True)
                    for fault in {repr(end) for end in ends if isinstance(end, BaseException)}:
                        print(fault, file=sys.stderr, flush=True)
                    await consumer.commit()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(drain(sys.argv[1], sys.argv[2], sys.argv[3]))
