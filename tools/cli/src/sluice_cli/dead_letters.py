"""dead-letters: list, show, replay and discard what could not be processed."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    from uuid import UUID

    from sluice.store.dead_letters import DeadLetter
    from sluice_cli.letter_records import LetterRecords

_MAX_LISTED = 1_000


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    letters = subparsers.add_parser(
        "dead-letters",
        help="list, replay and discard records that could not be processed",
        description="Records that a role could not read or had to refuse, and deliveries that failed. A replayed "
        "record goes to its topic again, under the identity that it had: one that was accepted meanwhile is not sent "
        "twice.",
    )
    commands = letters.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="show the newest letters, the open ones by default")
    listing.add_argument("--all", action="store_true", help="also those that were replayed or discarded")
    listing.add_argument("--topic", help="of records from this topic only")
    listing.add_argument(
        "--limit", type=within(int, 1, _MAX_LISTED), default=50, help=f"how many, at most {_MAX_LISTED} (default 50)"
    )
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=run_list)
    show = commands.add_parser("show", help="show one letter with the key, headers and value of its record")
    show.add_argument("id", help="dlt_…, as `list` shows it")
    show.set_defaults(run=run_show)
    for name, text, run in (
        ("replay", "publish records on their topics again", run_replay),
        ("discard", "mark letters as done", run_discard),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("id", nargs="*", help="dlt_…, as `list` shows it")
        command.add_argument("--topic", help="all open letters of records from this topic")
        command.set_defaults(run=run)


def run_list(options: argparse.Namespace) -> int:
    """Print the letters."""
    letters = asyncio.run(_list(options.topic, limit=options.limit, all_=options.all))
    for letter in letters:
        print(json.dumps(_fields(letter)) if options.json else _line(letter))
    if not letters and not options.json:
        print("no dead letters")
    return 0


async def _list(topic: str | None, *, limit: int, all_: bool = False) -> list[DeadLetter]:
    from sluice.store import dead_letters
    from sluice.store.dead_letters import LetterStatus
    from sluice_cli.context import database

    async with database() as db:
        status = None if all_ else LetterStatus.OPEN
        return await dead_letters.list_letters(db, None, topic=topic, status=status, limit=limit)


def _fields(letter: DeadLetter) -> dict[str, Any]:
    from sluice.model import ids

    def public(prefix: str, identifier: UUID | None) -> str | None:
        return None if identifier is None else ids.encode_id(prefix, identifier)

    return {
        "id": ids.encode_id("dlt", letter.id),
        "project_id": public("proj", letter.project_id),
        "kind": letter.kind.value,
        "status": letter.status.value,
        "reason": letter.reason,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.record_offset,
        "message_id": public("msg", letter.message_id),
        "occurred_at": letter.occurred_at.isoformat(),
    }


def _line(letter: DeadLetter) -> str:
    fields = _fields(letter)
    place = fields["message_id"] or f"{letter.topic}/{letter.partition}/{letter.record_offset}"
    reason = "".join(character if character.isprintable() else " " for character in letter.reason[:200])
    return f"{fields['id']}  {letter.occurred_at:%Y-%m-%d %H:%M:%S}  {letter.status.value:9}  {place}  {reason}"


def run_show(options: argparse.Namespace) -> int:
    """Print one letter and its record."""
    print(json.dumps(asyncio.run(_show(options.id)), indent=2))
    return 0


async def _show(text: str) -> dict[str, Any]:
    from sluice.store.dead_letters import LetterKind
    from sluice_cli.context import database, kafka
    from sluice_cli.letter_records import open_letter_records

    async with database() as db:
        letter = await _find(db, text)
    fields = _fields(letter)
    if letter.kind is LetterKind.INVALID_RECORD:
        async with open_letter_records(kafka()) as records:
            fields["record"] = (await records.letter(letter)).describe()
    return fields


async def _find(db: Any, text: str) -> DeadLetter:
    from sluice.model import ids
    from sluice.store import dead_letters

    try:
        letter = await dead_letters.find_letter(db, ids.decode_id("dlt", text))
    except ids.InvalidIdError as error:
        raise SluiceError(str(error)) from None
    if letter is None:
        raise SluiceError(f"there is no dead letter {text}")
    return letter


def run_replay(options: argparse.Namespace) -> int:
    """Publish the records of letters again."""
    from sluice.store.dead_letters import LetterStatus
    from sluice_cli.context import kafka
    from sluice_cli.letter_records import open_letter_records

    async def replay() -> int:
        async with open_letter_records(kafka()) as records:
            return await _resolve(options, LetterStatus.REPLAYED, lambda letter: _replay(records, letter))

    return asyncio.run(replay())


async def _replay(records: LetterRecords, letter: DeadLetter) -> None:
    from sluice.model import ids
    from sluice.store.dead_letters import LetterKind

    if letter.kind is not LetterKind.INVALID_RECORD:
        raise SluiceError(
            f"{ids.encode_id('dlt', letter.id)} is a delivery that failed: its message has ended. Send a new one, or "
            "discard the letter."
        )
    await records.replay(letter)


def run_discard(options: argparse.Namespace) -> int:
    """Mark letters as done."""
    from sluice.store.dead_letters import LetterStatus

    async def nothing(_letter: DeadLetter) -> None:
        """The row is all that changes."""

    return asyncio.run(_resolve(options, LetterStatus.DISCARDED, nothing))


async def _resolve(options: argparse.Namespace, status: Any, step: Callable[[DeadLetter], Awaitable[None]]) -> int:
    """Take ``step`` for each letter and mark it; an error concerns its letter only. Returns the exit code."""
    from sluice.model import ids
    from sluice.runtime.clock import utc_now
    from sluice.store import dead_letters
    from sluice_cli.context import database

    if bool(options.id) == bool(options.topic):
        raise SluiceError("name letters by their ids, or all open ones of a topic with --topic")
    failed = 0
    async with database() as db:
        letters: Sequence[DeadLetter] = [await _find(db, text) for text in options.id]
        if options.topic:
            letters = await _list(options.topic, limit=_MAX_LISTED)
        for letter in reversed(letters) if options.topic else letters:  # the oldest first, as they came
            name = ids.encode_id("dlt", letter.id)
            try:
                await step(letter)
            except SluiceError as error:
                failed += 1
                print(f"{name}: {error}")
                continue
            await dead_letters.resolve(db, letter.id, status, now=utc_now())
            print(f"{name}: {status.value}")
    if not letters:
        print("no dead letters")
    return 1 if failed else 0
