from gateway.app import main
from sluice.runtime.http_server import run_role

run_role(main)
