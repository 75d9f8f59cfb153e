"""The resources of a Kubernetes API server."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.kubernetes.objects import Document, group_path


class Refused(Exception):
    """The API server does not accept a request; the text is its status and message."""


class Api:
    """Requests to one API server. Every method raises :class:`Refused` for a status of 400 or more."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._resources: dict[tuple[str, str], dict[str, Any]] = {}

    def call(
        self, method: str, path: str, body: Document | None = None, content_type: str = "application/json", **query: str
    ) -> httpx.Response:
        """One request and its response."""
        content = None if body is None else json.dumps(body)
        headers = {"content-type": content_type}
        response = self._client.request(method, path, content=content, headers=headers, params=query)
        if response.is_error:
            is_json = response.headers.get("content-type", "").startswith("application/json")  # not of an unknown group
            raise Refused(f"{response.status_code}: {response.json().get('message') if is_json else response.text}")
        return response

    def get(self, path: str) -> Document:
        """The document at a path."""
        document: Document = self.call("GET", path).json()
        return document

    def create(self, document: Document, namespace: str = "", **query: str) -> httpx.Response:
        """Create an object. Unknown and repeated fields are refused."""
        return self.call("POST", self.path(document, namespace), document, fieldValidation="Strict", **query)

    def stored(self, document: Document, namespace: str) -> Document:
        """The stored object of a document's kind and name."""
        return self.get(f"{self.path(document, namespace)}/{document['metadata']['name']}")

    def set_status(self, document: Document, namespace: str, status: Document) -> None:
        """Change the status of an object, as its controller does."""
        path = f"{self.path(document, namespace)}/{document['metadata']['name']}/status"
        self.call("PATCH", path, {"status": status}, "application/merge-patch+json")

    def path(self, document: Document, namespace: str) -> str:
        """Where the objects of a document's kind are."""
        version, kind = document["apiVersion"], document["kind"]
        if (version, kind) not in self._resources:
            self._resources.update({(version, each["kind"]): each for each in self._discover(version)})
        if (version, kind) not in self._resources:
            raise Refused(f"404: there is no kind {kind} in {version}")
        return _path(version, self._resources[version, kind], namespace)

    def everything(self, namespace: str) -> list[Document]:
        """All objects of a namespace, without events."""
        groups = self.get("/apis")["groups"]
        found: list[Document] = []
        for version in ("v1", *(group["preferredVersion"]["groupVersion"] for group in groups)):
            for resource in self._discover(version):
                if resource["namespaced"] and "list" in resource["verbs"] and resource["kind"] != "Event":
                    items = self.get(_path(version, resource, namespace))["items"]
                    found += ({**each, "apiVersion": version, "kind": resource["kind"]} for each in items)
        return found

    def _discover(self, version: str) -> list[dict[str, Any]]:
        """What the server says of each resource; a subresource is none."""
        return [each for each in self.get(group_path(version))["resources"] if "/" not in each["name"]]


def _path(version: str, resource: dict[str, Any], namespace: str) -> str:
    within = f"/namespaces/{namespace}" if resource["namespaced"] else ""
    return f"{group_path(version)}{within}/{resource['name']}"
