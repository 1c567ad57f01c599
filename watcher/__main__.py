"""`python -P -m watcher` is the command `watcher`; without `-P` it is refused.

Without `-P`, Python imports from the current directory first. If that is a queue, any user may have
put a module there. This check comes too late if the directory holds a package `watcher`, but before
any other import.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        sys.stderr.write(
            "watcher: python -m imports modules from the current directory, any user's:"
            " use the command watcher, or python -P -m watcher\n"
        )
        sys.exit(64)  # EX_USAGE

    from watcher.cli import main

    main()
