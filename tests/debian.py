"""Files of Debian packages that a test needs and no Python package has; nothing is installed."""

import shutil
import subprocess
from pathlib import Path

_TIMEOUT = 60.0  # seconds for each command


class PackageMissingError(Exception):
    """A package cannot be had on this machine; the text is the reason."""


def unpack(package: str, folder: Path) -> Path:
    """Fetch a package, and those that it needs and this machine lacks, into ``folder``; returns the root of its files.

    Raises:
        PackageMissingError: there is no apt-get, or it cannot fetch them.
    """
    if shutil.which("apt-get") is None:
        raise PackageMissingError(f"there is no apt-get to fetch {package}")
    root = folder / "root"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        simulated = _run(["apt-get", "--simulate", "install", "--no-install-recommends", package], folder)
        _run(
            ["apt-get", "download", *(line.split()[1] for line in simulated.splitlines() if line.startswith("Inst "))],
            folder,
        )
        for file in folder.glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(file), str(root)], folder)
    except (subprocess.SubprocessError, OSError) as error:
        raise PackageMissingError(f"{package} cannot be fetched ({type(error).__name__})") from error
    return root


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=_TIMEOUT).stdout
