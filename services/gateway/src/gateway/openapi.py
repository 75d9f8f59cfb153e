"""The OpenAPI documents of the two APIs: ``python -m gateway.openapi v1`` prints docs/api/v1.openapi.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

from gateway.apis.project_api import create_project_api
from gateway.apis.v1 import create_v1_api

APIS: Mapping[str, Callable[[], FastAPI]] = {"v1": create_v1_api, "project": create_project_api}


def document(api: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``api``, one of :data:`APIS`."""
    return APIS[api]().openapi()


if __name__ == "__main__":
    print(json.dumps(document(sys.argv[1]), indent=2, ensure_ascii=False))
