"""``sluice`` in this process, against the tests' gateway over HTTP."""

import asyncio
import io
from contextlib import asynccontextmanager

import pytest
import uvicorn

from sluice_cli.main import main
from sluice_launcher.process_info import free_port
from tests.polling import wait_until


@asynccontextmanager
async def served(app):
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=free_port(), lifespan="off", log_level="error"))
    task = asyncio.create_task(server.serve())
    try:
        await wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def command(gateway, monkeypatch, tmp_path, capsys):
    """Runs ``sluice`` with arguments and an input; its exit code, output and errors."""
    async with served(gateway.app) as url:
        monkeypatch.setenv("SLUICE_API_URL", url)
        monkeypatch.setenv("SLUICE_API_KEY", gateway.key)
        monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))

        async def run(*arguments, given=""):
            monkeypatch.setattr("sys.stdin", io.StringIO(given))
            code = await asyncio.to_thread(main, arguments)
            return code, *capsys.readouterr()

        yield run
