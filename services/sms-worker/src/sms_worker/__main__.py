from sluice.serving import run_role
from sms_worker.app import main

run_role(main)
