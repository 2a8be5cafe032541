"""One module per stage, each run as `python -m stages.<name> paths...`."""

import ctypes
import logging
import os
import sys

from ladder import watching
from ladder.launch import die_with_parent, stage_name

die_with_parent()  # before the stage's module imports torch, which takes seconds
if name := stage_name():
    watching.start(name)

# Nothing here decides a number: it keeps other libraries quiet, and memory at hand.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports every run
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a missing 4-bit kernel at every import

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
    # glibc gives large buffers back to the kernel at every free, and each training step on a CPU takes the same
    # gigabytes again: a third of a step went into page faults. ladder/resident.py returns what stays unused.
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
        libc.mallopt(option, value)
