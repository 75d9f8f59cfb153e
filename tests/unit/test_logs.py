"""F3: a log line that cannot be written is dropped and counted; the process goes on."""

import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest

from sluice.runtime import metrics
from sluice.runtime.logs import LossyLines

PROGRAM = """
import logging, sys
import structlog
from sluice.runtime.logs import configure_logging
from sluice.runtime.metrics import LOG_LINES_DROPPED

configure_logging("info", "role")
for number in range(3):
    structlog.get_logger().warning("stays_alive", number=number)
logging.getLogger("library").error("so does this")
with open(sys.argv[1], "w") as report:
    report.write(str(LOG_LINES_DROPPED._value.get()))
"""


def dropped():
    return metrics.LOG_LINES_DROPPED._value.get()


def run(tmp_path, stdout, stderr):
    report = tmp_path / "report"
    process = subprocess.run([sys.executable, "-c", PROGRAM, str(report)], stdout=stdout, stderr=stderr)
    return process, float(report.read_text())


def test_f3_a_full_disk_neither_raises_nor_changes_the_exit_code(tmp_path):
    with open("/dev/full", "wb") as full:
        process, count = run(tmp_path, full, full)

    assert (process.returncode, count) == (0, 4)


def test_f3_a_pipe_without_a_reader_neither_raises_nor_ends_the_process(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process, count = run(tmp_path, writing, writing)
    finally:
        os.close(writing)

    assert (process.returncode, count) == (0, 4)


def test_a_line_that_can_be_written_is(tmp_path):
    process, count = run(tmp_path, subprocess.PIPE, subprocess.PIPE)

    lines = [json.loads(line) for line in process.stdout.splitlines()]
    assert [(line["event"], line["role"], line["number"]) for line in lines] == [
        ("stays_alive", "role", number) for number in range(3)
    ]
    assert (count, process.stderr) == (0, b"ERROR library so does this\n")


@pytest.fixture
def pipe():
    """A pipe that nearly fills: the writer does not wait."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_torn_line_does_not_swallow_the_next_one(pipe):
    reading, writing = pipe
    lines, before = LossyLines(writing), dropped()
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 65536)
    os.read(reading, 4096)
    lines.write("a" * 10_000 + "\n")  # 4,096 bytes of it fit
    lines.write("no room\n")
    with suppress(BlockingIOError):
        while True:
            os.read(reading, 65536)

    lines.write("whole\n")

    assert os.read(reading, 65536).endswith(b"\nwhole\n")
    assert dropped() - before == 2
