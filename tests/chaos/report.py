"""docs/reliability.md: each command replaces its own block of results."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def write(name: str, *, command: str, figures: Mapping[str, Any], table: str = "", page: Path = PAGE) -> None:
    """Replace the block ``name`` of the page by the result of a run."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    violations = figures.get("violations")
    result = "every invariant held" if not violations else f"**violated**: {violations}"
    shown = json.dumps(figures, indent=2, default=str)
    block = f"`{command}`, {when}: {result}.\n\n{table}\n```json\n{shown}\n```\n"
    text = page.read_text("utf-8")
    begin, end = f"<!-- {name}: written by the command -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        text += f"\n{begin}\n{end}\n"
    page.write_text(pattern.sub(lambda _: f"{begin}\n\n{block}\n{end}", text), "utf-8")
