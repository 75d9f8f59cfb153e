"""Log files: the last lines, and the size at which they are rotated while being written."""

from sluice_launcher import logs
from sluice_launcher.logs import last_line, open_log, rotate, tail


def test_the_last_lines_are_not_blank(tmp_path):
    (tmp_path / "a.log").write_text("one\ntwo\n\nthree\n\n")

    assert tail(tmp_path / "a.log", 2) == ["two", "three"]


def test_a_missing_log_has_no_last_line(tmp_path):
    assert last_line(tmp_path / "none.log") == "(empty)"


def test_a_log_that_is_too_large_is_rotated_while_its_writer_continues(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MAX_BYTES", 10)
    with open_log(tmp_path / "a.log") as writer:
        writer.write(b"more than ten bytes\n")
        writer.flush()

        rotate(tmp_path / "a.log")
        writer.write(b"new\n")

    assert (tmp_path / "a.log").read_text() == "new\n"
    assert (tmp_path / "a.log.1").read_text() == "more than ten bytes\n"


def test_a_small_log_is_not_rotated(tmp_path):
    (tmp_path / "a.log").write_text("small\n")

    rotate(tmp_path / "a.log")

    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
