"""The matrix of the provider packages for docs/providers/index.md: ``python -m tests.repository.provider_matrix``."""

from __future__ import annotations

from sluice.providers.contract import AnyPackage
from sluice.providers.registry import PACKAGES

_COLUMNS = ("Package", "Channels", "Transport", "Receipts", "Idempotent", "Recipients", "HTML", "Attachments", "Parts")


def matrix() -> str:
    """A Markdown table with one row for each of our packages, from the facts on it."""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *map(_row, PACKAGES.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page_of(package: AnyPackage) -> str:
    """The file name of the package's page in docs/providers."""
    return package.build.__module__.rpartition(".")[2].replace("_", "-") + ".md"


def _row(package: AnyPackage) -> tuple[str, ...]:
    return (
        f"[{package.title}]({page_of(package)}) `{package.name}`",
        "all" if len(package.channels) > 1 else package.channels[0].value,
        package.transport.value,
        package.receipts.value,
        _yes(package.idempotent),
        str(package.max_recipients),
        _yes(package.supports_html),
        _yes(package.supports_attachments),
        _yes(package.segments),
    )


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


if __name__ == "__main__":
    print(matrix())
