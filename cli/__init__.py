"""The commands igs-encode, igs-decode, igs-edit, igs-info, igs-validate and igs-view: one file each (docs/cli.md).

Imported before anything heavy. Until ``process.main`` takes over, Ctrl-C has nothing to tidy up and ends the process at
once, with the exit code of an interrupt instead of a traceback out of some import.
"""

import os
import signal
import sys
import threading

_COMMAND = os.path.basename(sys.argv[0]).startswith("igs-")  # not where a program imports these modules
_MAIN = threading.current_thread() is threading.main_thread()

if _COMMAND and _MAIN and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda signum, frame: os._exit(130))
