from health.app import main
from sluice.bootstrap import run_role

run_role(main)
