"""Commands whose PostgreSQL answers what the driver cannot use, or whose files cannot be written: one sentence."""

import socket
import threading

import pytest

from sluice_cli.main import main

# AuthenticationRequest with method 99, which no driver has: an InterfaceError, neither OSError nor PostgresError.
UNKNOWN_METHOD = b"R\x00\x00\x00\x08\x00\x00\x00\x63"


@pytest.fixture
def dsn():
    """Of a server that answers every connection with an unknown method of authentication."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield f"postgresql://sluice@127.0.0.1:{server.getsockname()[1]}/sluice?sslmode=disable"


def serve(server):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(UNKNOWN_METHOD)
            connection.recv(4096)


@pytest.mark.parametrize(
    ("words", "variable"),
    [(("migrate",), "SLUICE_POSTGRES_OWNER_DSN"), (("verify",), "SLUICE_POSTGRES_DSN")],
)
def test_an_error_of_the_driver_is_one_sentence(dsn, monkeypatch, tmp_path, capsys, words, variable):
    monkeypatch.setenv(variable, dsn)
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))

    code = main(words)

    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith("sluice: ")
    assert "unsupported authentication method" in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_written_is_one_sentence(monkeypatch, tmp_path, capsys):
    """Below a file there is no directory, for root neither."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SLUICE_ENCRYPTION_KEY_FILE", str(file / "keys/credentials.key"))

    code = main(["generate-key"])

    assert code == 1
    assert capsys.readouterr().err == f"sluice: {file / 'keys'}: Not a directory\n"


def test_the_error_of_a_bug_keeps_its_traceback(monkeypatch):
    def broken(_):
        raise KeyError("x")

    monkeypatch.setattr("sluice_cli.setup.run_generate_key", broken)

    with pytest.raises(KeyError):
        main(["generate-key"])


def test_without_the_launcher_no_command_of_it_is_named(monkeypatch, capsys):
    monkeypatch.delenv("SLUICE_POSTGRES_DSN", raising=False)
    monkeypatch.setattr("sluice_cli.context.launcher", lambda: None)

    code = main(["verify"])

    assert (code, capsys.readouterr().err) == (1, "sluice: SLUICE_POSTGRES_DSN is not set\n")
