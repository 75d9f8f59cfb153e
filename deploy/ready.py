#!/usr/bin/env python3
"""The health check of the image: exit code 0 while the role in this container is ready; otherwise it prints why not."""

import os
import sys
import urllib.error
import urllib.request

try:
    port = os.environ.get("SLUICE_OPS_PORT") or os.environ["SLUICE_PORT"]
    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2)
except urllib.error.HTTPError as refused:
    sys.exit(refused.read().decode())
except OSError as fault:
    sys.exit(str(fault))
