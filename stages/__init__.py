"""One module per stage, each run as `python -m stages.<name> paths...`."""

import logging
import os

# Nothing here decides a number; it keeps other libraries quiet before they are imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports every run
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a missing 4-bit kernel at every import
