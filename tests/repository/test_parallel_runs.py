"""A parallel run gives the tests of a group to one worker: a pytest that pytest-xdist cannot group with breaks that
without a word, and whole systems under load run beside each other.
"""

import os
import subprocess
import sys

TESTS = """
import os, pytest, time

@pytest.mark.parametrize("number", range(6))
@pytest.mark.xdist_group("one")
def test_grouped(number):
    time.sleep(0.05)
    with open("workers.txt", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)

@pytest.mark.parametrize("number", range(6))
def test_alone(number):
    time.sleep(0.05)
"""


def test_the_tests_of_a_group_go_to_one_worker(tmp_path):
    (tmp_path / "test_groups.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "--numprocesses=2", "--dist=loadgroup", "--rootdir=.", "."]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}

    finished = subprocess.run(command, cwd=tmp_path, env=outer, capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stdout
    workers = (tmp_path / "workers.txt").read_text().split()
    assert len(workers) == 6
    assert len(set(workers)) == 1
