"""The start of a role's process: it can be ended from its first moment on."""

import signal
import subprocess
import sys

import pytest

from tests.repository.files import ROOT

# Process 1 of a container ignores a signal without a handler; a process with SIG_IGN behaves alike.
IMPORTING = """
import signal, sys, types
signal.signal({number}, signal.SIG_IGN)
from sluice.start import start

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "slow_application":
            print("importing", flush=True)
            signal.pause()

sys.meta_path.insert(0, Slow())
start("slow_application")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_imports_ends_the_process(number):
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTING.format(number=int(number))], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "importing\n"
        process.send_signal(number)

        assert process.wait(30) == 128 + number


def test_every_role_starts_this_way():
    starts = {path.parent.name: path.read_text("utf-8") for path in ROOT.glob("services/*/src/*/__main__.py")}

    assert len(starts) == 7
    assert starts == {name: f'from sluice.start import start\n\nstart("{name}.app")\n' for name in starts}
