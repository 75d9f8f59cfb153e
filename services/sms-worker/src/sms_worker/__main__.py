from sluice.runtime.http_server import run_role
from sms_worker.app import main

run_role(main)
