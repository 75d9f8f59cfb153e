#!/usr/bin/env python3
"""The health check of the image: exit code 0 while the role in this container is ready; otherwise it prints why not."""

import os
import sys
import urllib.error
import urllib.request

try:
    urllib.request.urlopen(f"http://127.0.0.1:{os.environ['SLUICE_PORT']}/readyz", timeout=2)
except urllib.error.HTTPError as refused:
    sys.exit(refused.read().decode())
except OSError as fault:
    sys.exit(str(fault))
