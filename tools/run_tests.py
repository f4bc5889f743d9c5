"""The whole suite, twice: embedded (SQLite, in-memory broker), then PostgreSQL and Redis. Any failure fails the run.

The second run leaves out tests marked `once`: those that touch neither database nor broker (wire, client, pages in a
browser), whose repetition would prove nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.services import services

_PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-n",
    os.environ.get("TEST_WORKERS", "3"),
    "--dist",
    "loadfile",
    "--no-loadscope-reorder",
    "-q",
]

# The Makefile exports STATE_DIR for `make run`; the suite chooses its own, so it never touches a person's installation.
# Compiled modules are kept: the suite starts Python some hundred times.
_OURS = {"DATABASE_URL", "REDIS_URL", "STATE_DIR", "PYTHONDONTWRITEBYTECODE"}


def main() -> int:
    extra = sys.argv[1:]
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    print("== SQLite, embedded worker ==", flush=True)
    first = subprocess.run([*_PYTEST, *extra], env=environment, check=False).returncode
    print("== PostgreSQL and Redis ==", flush=True)
    with services() as variables:
        second = subprocess.run(
            [*_PYTEST, "-m", "not once", *extra], env={**environment, **variables}, check=False
        ).returncode
    return first or second


if __name__ == "__main__":
    sys.exit(main())
