"""Lays out the schemas of Kubernetes that the package kubernetes-validate has, for kubeconform without a network."""

import json
import sys
from pathlib import Path

import kubernetes_validate

VERSION = "1.37.0"


def main(target: Path) -> None:
    """Write each schema of :data:`VERSION`; references stay inside the folder, and nothing names a host."""
    source = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{VERSION}-local-strict"
    files = sorted(source.glob("*.json"))
    if not files:
        sys.exit(f"there are no schemas of Kubernetes {VERSION} in {source}")
    target.mkdir(parents=True)
    for file in files:
        schema = json.loads(file.read_text("utf-8"))
        schema.pop("$id", None)  # otherwise references are looked up there
        (target / file.name).write_text(json.dumps(schema).replace('"/api/_definitions.json', '"_definitions.json'), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
