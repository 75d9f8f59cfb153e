"""Commands whose PostgreSQL answers what the driver cannot use: one sentence, not a traceback."""

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
