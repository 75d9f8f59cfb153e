from push_worker.app import main
from sluice.serving import run_role

run_role(main)
