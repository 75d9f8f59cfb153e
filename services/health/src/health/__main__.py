from health.app import main
from sluice.serving import run_role

run_role(main)
