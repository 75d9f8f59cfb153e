"""Folded stacks into a flame graph and a budget per step. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from zlib import crc32

Stacks = Mapping[tuple[str, ...], int]

# The innermost frame that matches one of these decides the step of a sample.
STEPS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("the database (asyncpg, store)", ("asyncpg/", "sluice/store/")),
    ("the bus (aiokafka, bus)", ("aiokafka/", "sluice/bus/", "cramjam")),
    ("calling providers: aiohttp", ("aiohttp/", "aiosignal/", "yarl/", "multidict/")),
    ("calling providers: httpx's values", ("httpx/",)),
    ("calling providers: packages and transports", ("sluice/transports/", "sluice/providers/")),
    ("serving HTTP (uvicorn, starlette)", ("uvicorn/", "starlette/", "fastapi/", "httptools/")),
    ("validating and encoding (pydantic, json)", ("pydantic/", "pydantic_core/", "orjson/", "/json/", "sluice/model/")),
    ("metrics", ("prometheus_client/", "sluice/runtime/metrics.py")),
    ("logging", ("structlog/", "/logging/")),
    ("sharing commits (batching)", ("sluice/runtime/batching.py",)),
    ("deciding (gateway, router, delivery, health)", ("sluice/delivery/", "sluice/routing/", "sluice/health/",
                                                      "gateway/", "router/", "health/", "_worker/")),
    ("the event loop", ("asyncio/", "uvloop", "/selectors.py")),
)  # fmt: skip
OTHER = "everything else"

HEIGHT = 16
WIDTH = 1200
MIN_SHARE = 0.001  # share below which a frame is not drawn


def parse(folded: str) -> Counter[tuple[str, ...]]:
    """Lines of `frame;frame;frame count`."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        # py-spy takes a thread of a pool that waits for work for a busy one.
        if stack and count.isdecimal() and "_worker (concurrent/futures/" not in stack.rpartition(";")[2]:
            found[tuple(stack.split(";"))] += int(count)
    return found


def budget(stacks: Stacks) -> dict[str, float]:
    """The share of each step, largest first."""
    total = sum(stacks.values())
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[_step(stack)] += count
    return {name: count / total for name, count in found.most_common()} if total else {}


def _step(stack: Sequence[str]) -> str:
    for frame in reversed(stack):
        for name, marks in STEPS:
            if any(mark in frame for mark in marks):
                return name
    return OTHER


def hottest(stacks: Stacks, most: int = 15) -> list[tuple[str, float]]:
    """The functions in which the samples ended, with their shares."""
    total = sum(stacks.values())
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[_without_line(stack[-1])] += count
    return [(name, count / total) for name, count in found.most_common(most)] if total else []


def _without_line(frame: str) -> str:
    head, _, tail = frame.rpartition(":")
    return f"{head})" if head and tail.rstrip(")").isdecimal() else frame


@dataclass(slots=True)
class _Node:
    count: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


def _tree(stacks: Stacks) -> _Node:
    root = _Node()
    for stack, count in stacks.items():
        root.count += count
        node = root
        for frame in map(_without_line, stack):
            node = node.children.setdefault(frame, _Node())
            node.count += count
    return root


def svg(stacks: Stacks, title: str) -> str:
    """A flame graph: width is time, callers are below; a frame shows its name and share on hover."""
    root = _tree(stacks)
    boxes: list[str] = []
    depth = _draw(root, 0.0, 0, max(1, root.count), boxes)
    height = (depth + 3) * HEIGHT
    body = "\n".join(_placed(boxes, height))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
        f'font-size="11">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<text x="6" y="14">{escape(title)}: {root.count} samples</text>\n{body}\n</svg>\n'
    )


def _draw(node: _Node, left: float, level: int, total: int, boxes: list[str]) -> int:
    deepest = level
    for name, child in sorted(node.children.items()):
        width = WIDTH * child.count / total
        if child.count / total >= MIN_SHARE:
            boxes.append(f"{level}\t{left:.1f}\t{width:.1f}\t{child.count / total:.2%}\t{name}")
            deepest = max(deepest, _draw(child, left, level + 1, total, boxes))
        left += width
    return deepest


def _placed(boxes: Iterable[str], height: int) -> Iterable[str]:
    for box in boxes:
        level, left, width, share, name = box.split("\t", 4)
        top = height - (int(level) + 1) * HEIGHT
        letters = int(float(width) / 6.8)
        short = _short(name)
        shown = short if len(short) <= letters else short[: max(0, letters - 1)] + "…" if letters > 3 else ""
        hue = crc32(_step([name]).encode()) % 360
        yield (
            f'<g><title>{escape(name)} {share}</title><rect x="{left}" y="{top}" width="{width}" '
            f'height="{HEIGHT - 1}" fill="hsl({hue},70%,75%)"/>'
            f'<text x="{float(left) + 3:.1f}" y="{top + 12}">{escape(shown)}</text></g>'
        )


def _short(frame: str) -> str:
    """The function, and the last two parts of its file."""
    function, _, path = frame.partition(" (")
    return f"{function} ({'/'.join(path.split('/')[-2:])}" if path else function
