"""python -m bench.gpu_check: see `check.py`."""

import sys

from bench.gpu_check.check import main

if __name__ == "__main__":
    sys.exit(main())
