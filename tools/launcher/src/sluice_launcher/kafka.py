"""Apache Kafka as a child process: one KRaft node that is broker and controller, from the pinned jars."""

import base64
import shutil
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from string import Template

from sluice.runtime.paths import deploy_dir
from sluice_launcher import probes
from sluice_launcher.kafka_jars import read_jar_list
from sluice_launcher.plan import HOST, PRODUCER, Plan, addresses
from sluice_launcher.process_spec import ProcessSpec, Run
from sluice_launcher.secret_files import write_private

# Only the first JIT compiler: with the second one a new broker uses twice the CPU in its first minutes (measured at
# 1,500 messages a second on two cores: 0.40 CPU-s per 1,000 against 0.18), and no less afterwards (0.17).
_FRUGAL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
HEAP = ("-Xms128m", "-Xmx384m", *_FRUGAL)
FORMAT_HEAP = ("-Xms64m", "-Xmx128m", *_FRUGAL)


def spec(plan: Plan) -> ProcessSpec:
    """The process as the plan wants it."""
    data = plan.data_dir / "kafka"
    return ProcessSpec(
        name="kafka",
        kind="service",
        command=[*_java(plan, HEAP), "kafka.Kafka", _properties(plan)],
        address=addresses(plan)["kafka"],
        probe=partial(_probe(plan), HOST, plan.ports["kafka"]),
        prepare=partial(_format, plan, data),
        stop_seconds=20,
        data=data,
    )


def _probe(plan: Plan) -> Callable[[str, int], Awaitable[bool]]:
    return probes.kafka if plan.kafka_password is None else partial(probes.kafka_with_login, plan.kafka_password)


async def _format(plan: Plan, data: Path, run: Run) -> None:
    """Write the configuration with the current ports, and format a new data directory."""
    _empty_scratch(plan)
    _write_properties(plan, data)
    _write_class_path(plan)
    if (data / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    await run(
        [
            *_java(plan, FORMAT_HEAP),
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster,
            "-c",
            _properties(plan),
            *_scram_users(plan),
        ]
    )


def _scram_users(plan: Plan) -> list[str]:
    """The option that creates the users, in a file: a command line is visible to every user of the machine."""
    if plan.kafka_password is None:
        return []
    users = {"sluice": plan.kafka_password, PRODUCER: plan.kafka_producer_password}
    lines = [
        line
        for name, password in users.items()
        for line in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
    ]
    arguments = plan.run_dir / "kafka-users"
    write_private(arguments, "\n".join(lines) + "\n")
    return [f"@{arguments}"]


def _java(plan: Plan, heap: tuple[str, ...]) -> list[str | Path]:
    logging = f"-Dlog4j2.configurationFile={deploy_dir() / 'kafka/log4j2.properties'}"
    # No files in the machine's /tmp.
    scratch = ("-XX:-UsePerfData", f"-Djava.io.tmpdir={_scratch(plan)}")
    return [plan.programs["java"], *heap, *scratch, logging, f"@{_class_path(plan)}"]


def _scratch(plan: Plan) -> Path:
    return plan.run_dir / "java"


def _empty_scratch(plan: Plan) -> None:
    """The jars unpack native libraries there, which remain after a kill."""
    shutil.rmtree(_scratch(plan), ignore_errors=True)
    _scratch(plan).mkdir(mode=0o700)


def _properties(plan: Plan) -> Path:
    return plan.run_dir / "kafka.properties"


def _class_path(plan: Plan) -> Path:
    return plan.run_dir / "kafka.class-path"


def _write_properties(plan: Plan, data: Path) -> None:
    text = Template((deploy_dir() / "kafka/server.properties").read_text()).substitute(
        host=HOST,
        port=plan.ports["kafka"],
        controller_port=plan.ports["kafka-controller"],
        # A properties file takes a backslash for the start of an escape.
        data=str(data).replace("\\", "\\\\"),
    )
    if plan.kafka_password is not None:
        security = Template((deploy_dir() / "kafka/security.properties").read_text())
        # A later line replaces an earlier one of the same property.
        text += security.substitute(password=plan.kafka_password, controller_password=plan.kafka_controller_password)
    write_private(_properties(plan), text)


def _write_class_path(plan: Plan) -> None:
    """An argument file for java: the pinned jars by name, so that no other jar of the directory is loaded."""
    directory = plan.programs["kafka"]
    jars = [str(directory / jar.filename) for jar in read_jar_list(deploy_dir() / "kafka/kafka.jars")]
    quoted = ":".join(jars).replace("\\", "\\\\").replace('"', '\\"')
    _class_path(plan).write_text(f'-cp "{quoted}"\n')
