"""`python -m appliance VERB ...` does what `appliance VERB ...` does."""

from __future__ import annotations

import sys

from appliance.cli import main

sys.exit(main())
