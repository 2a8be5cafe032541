"""One module per stage, each run as `python -m stages.<name> paths...`."""

import logging
import os
import warnings

from ladder.pipeline import watcher
from ladder.pipeline.launch import die_with_parent, stage_name

die_with_parent()  # before the stage's module imports torch, which takes seconds
if name := stage_name():
    watcher.start(name)

# These settings change no result: they silence other libraries and make large buffers cheap.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports every run
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a missing 4-bit kernel at every import
logging.getLogger("liger_kernel").setLevel(logging.ERROR)  # it lists kernels of other vendors' devices
warnings.filterwarnings("ignore", message="`use_liger_kernel=True` is deprecated")  # trl's hub kernels need a hub
# Large buffers come in pages of 2 MB where the kernel grants them, which halves the time that page faults take. glibc
# still returns each freed buffer: kept ones of differing lengths would add up over the steps (docs/reliability.md).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
