"""The version of the program: of the image, or of the installed distribution."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTION = "sluice-common"


def program_version() -> str:
    """``SLUICE_VERSION``, which the image sets; otherwise the distribution's."""
    try:
        return os.environ.get("SLUICE_VERSION") or version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
