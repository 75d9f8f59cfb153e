#!/usr/bin/env python3
"""The health check of the image: exit code 0 while the role in this container is ready."""

import os
import sys
import urllib.request

try:
    answer = urllib.request.urlopen(f"http://127.0.0.1:{os.environ['SLUICE_PORT']}/readyz", timeout=2)
except OSError as fault:
    sys.exit(str(fault))
sys.exit(0 if answer.status == 200 else 1)
