"""The location of ``deploy/``: in a checkout or an image, never in the wheel."""

from __future__ import annotations

import os
from pathlib import Path

from sluice.runtime.errors import SluiceError


def deploy_dir() -> Path:
    """The ``deploy`` folder: ``SLUICE_DEPLOY_DIR``, or the nearest one above this file or the working directory.

    Raises:
        SluiceError: no such folder exists.
    """
    named = os.environ.get("SLUICE_DEPLOY_DIR")
    if named:
        return Path(named)
    for start in (Path(__file__).resolve(), Path.cwd().resolve() / "x"):
        for parent in start.parents:
            if (parent / "deploy" / "topics.yml").is_file():
                return parent / "deploy"
    raise SluiceError("the deploy folder was not found: run inside the checkout or set SLUICE_DEPLOY_DIR")
