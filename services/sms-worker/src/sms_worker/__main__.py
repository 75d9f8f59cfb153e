from sluice.bootstrap import run_role
from sms_worker.app import main

run_role(main)
