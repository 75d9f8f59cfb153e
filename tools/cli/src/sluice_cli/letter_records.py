"""The records behind dead letters: read from the bus, and published again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from sluice.bus.connect import C, connected
from sluice.bus.connection import KafkaConnection, explain
from sluice.bus.dead_letters import REPLAY_HEADER, coordinates
from sluice.bus.reader import create_reader
from sluice.bus.topics import Topic
from sluice.runtime.errors import SluiceError
from sluice.store.dead_letters import DeadLetter

_TIMEOUT = 10.0  # seconds for one record
_MASKED = "***"


@dataclass(frozen=True, slots=True)
class LetterContent:
    """What a letter on the bus has of its record."""

    fields: dict[str, Any]

    @property
    def is_whole(self) -> bool:
        """Whether the record could be published from the letter: nothing was cut off or masked."""
        return not self.fields.get("truncated") and _MASKED not in self.fields.get("headers", {}).values()

    def describe(self) -> dict[str, Any]:
        """Key, headers and value, as text where they are text."""
        return {
            "key": _readable(base64.b64decode(self.fields.get("key") or "")),
            "headers": self.fields.get("headers", {}),
            "value": _readable(base64.b64decode(self.fields.get("value") or "")),
            "truncated": bool(self.fields.get("truncated")),
        }


def _readable(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(data).decode()}"


class LetterRecords:
    """Reads and publishes the records of letters."""

    def __init__(self, reader: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        self._reader = reader
        self._producer = producer

    async def letter(self, letter: DeadLetter) -> LetterContent:
        """What the bus has of a letter.

        Raises:
            SluiceError: the topic does not have it any more.
        """
        record = await self._read(Topic.DEAD_LETTERS.value, letter.letter_partition, letter.letter_offset)
        if record is None:
            raise SluiceError("the topic dead.letters does not have this letter any more")
        return LetterContent(orjson.loads(record.value or b"{}"))

    async def replay(self, letter: DeadLetter) -> None:
        """Publish the record of a letter on its topic, with the header that names the record that it repeats.

        The original record is read, because a letter has neither API keys nor all of a large value; where it
        is gone, it is the one in the letter.

        Raises:
            SluiceError: neither has the whole record, or the broker does not store it.
        """
        content = await self.letter(letter)
        assert letter.topic is not None
        assert letter.partition is not None
        assert letter.record_offset is not None
        original = await self._read(letter.topic, letter.partition, letter.record_offset)
        if original is not None and original.timestamp == content.fields.get("timestamp"):
            key, value, headers = original.key, original.value, list(original.headers)
            timestamp, name = original.timestamp, coordinates(original)
        elif content.is_whole:
            fields = content.fields
            key, value = base64.b64decode(fields["key"]) or None, base64.b64decode(fields["value"])
            headers = [(one, None if text is None else text.encode()) for one, text in fields["headers"].items()]
            timestamp = fields["timestamp"]
            name = f"{letter.topic}/{letter.partition}/{letter.record_offset}@{timestamp}"
        else:
            raise SluiceError(f"{letter.topic} does not have the record any more, and the letter only a part of it")
        first = next((text for one, text in headers if one.lower() == REPLAY_HEADER), name.encode())
        headers = [(one, text) for one, text in headers if one.lower() != REPLAY_HEADER]
        await self._publish(letter.topic, key, value, [*headers, (REPLAY_HEADER, first)], timestamp)

    async def _publish(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[Any], timestamp: int
    ) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                # With its time: `send_at` and `expires_at` were valid then.
                await self._producer.send_and_wait(topic, value, key=key, headers=headers, timestamp_ms=timestamp)
        except (KafkaError, TimeoutError) as error:
            raise SluiceError(f"the broker does not store the record: {error or type(error).__name__}") from None

    async def _read(self, topic: str, partition: int, offset: int) -> ConsumerRecord | None:
        place = TopicPartition(topic, partition)
        try:
            async with asyncio.timeout(_TIMEOUT):
                self._reader.assign([place])
                first = (await self._reader.beginning_offsets([place]))[place]
                end = (await self._reader.end_offsets([place]))[place]
                if not first <= offset < end:
                    return None
                self._reader.seek(place, offset)
                record = await self._reader.getone(place)
        except TimeoutError:
            return None  # a marker of a transaction, or a record that was compacted
        except KafkaError as error:
            raise SluiceError(f"Kafka does not answer: {error or type(error).__name__}") from None
        return record if record.offset == offset else None


@asynccontextmanager
async def open_letter_records(kafka: KafkaConnection) -> AsyncIterator[LetterRecords]:
    """A connection to the bus for one command.

    Raises:
        SluiceError: no broker can be used.
    """
    async with AsyncExitStack() as stack:
        reader = await _started(kafka, lambda: create_reader(kafka))
        stack.push_async_callback(reader.stop)
        producer = await _started(kafka, lambda: AIOKafkaProducer(**kafka.options(), acks="all"))
        stack.push_async_callback(producer.stop)
        yield LetterRecords(reader, producer)


async def _started(kafka: KafkaConnection, factory: Callable[[], C]) -> C:
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await connected(kafka, factory, client="dead-letters")
    except TimeoutError:
        raise SluiceError(f"Kafka cannot be used: {await explain(kafka)}") from None
