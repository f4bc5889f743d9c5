"""Files under ~/.sallyport: directory 0700, files 0600, written whole or not at all, never looked for anywhere else.

File names follow access-client.md section 3, so that people who know cloudflared's directory find their way.
The working directory is never read (security.md AC-42).
"""

import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dataplane.errors import CommandError

DIRECTORY_NAME = ".sallyport"
MAX_FILE_BYTES = 256 * 1024
LOCK_TIMEOUT_SECONDS = 600.0
LOCK_RETRY_SECONDS = 0.25
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def home_directory() -> Path:
    """HOME first, as ssh's %d and cloudflared do; the working directory never stands in for it."""
    home = os.environ.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        raise CommandError(f"HOME must be an absolute path, not {home!r}")
    return Path(home)


def safe_name(text: str) -> str:
    """A server- or user-given text as one file name component (`/` and `*` become `-`); never hidden, never a path."""
    return _UNSAFE.sub("-", text).lstrip(".") or "-"


class State:
    """The state directory. Creating the object touches nothing; the directory is made at the first write."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def for_user(cls) -> "State":
        return cls(home_directory() / DIRECTORY_NAME)

    def path(self, name: str) -> Path:
        return self.directory / name

    def read(self, name: str) -> str | None:
        """Stripped text, or None when the file does not exist. A file others may write to is refused."""
        return read_private(self.path(name))

    def write(self, name: str, text: str, *, mode: int = 0o600) -> Path:
        self.ensure()
        write_private(self.path(name), text, mode=mode)
        return self.path(name)

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def ensure(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.directory.stat().st_mode & 0o077:
                self.directory.chmod(0o700)
        except OSError as error:
            raise CommandError(f"cannot use {self.directory}: {error.strerror}") from error

    @contextmanager
    def lock(
        self, name: str, *, on_wait: Callable[[int | None], None], timeout: float = LOCK_TIMEOUT_SECONDS
    ) -> Iterator[None]:
        """Exclusive between processes and threads, for as long as the block runs.

        The kernel drops the lock with its owner, so it cannot go stale; the owner's pid stands in the file for people.
        `on_wait(pid)` is called once if somebody else holds it. The file stays: unlinking it would let two owners in.
        """
        self.ensure()
        descriptor = os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _acquire(descriptor, on_wait, time.monotonic() + timeout, self.path(name))
            os.ftruncate(descriptor, 0)
            os.pwrite(
                descriptor,
                json.dumps({"pid": os.getpid(), "start_time": int(time.time() * 1000)}).encode(),
                0,
            )
            yield
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def read_private(path: Path) -> str | None:
    try:
        with path.open("rb") as handle:
            status = os.fstat(handle.fileno())
            if status.st_mode & 0o022 or (hasattr(os, "getuid") and status.st_uid not in (os.getuid(), 0)):
                raise CommandError(f"{path} can be written by others; remove it or run: chmod 600 {path}")
            data = handle.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise CommandError(f"{path} is too large to be ours; remove it")
    return data.decode("utf-8", "replace").strip()


def write_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Temp file, fsync, rename: a reader sees the old or the new text, also after a power cut."""
    temporary = path.with_name(f".{path.name}-{os.urandom(6).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
                os.fchmod(descriptor, mode)  # exact, whatever the umask
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error


def warn(message: str) -> None:
    print(f"sallyport: {message}", file=sys.stderr, flush=True)


def _acquire(descriptor: int, on_wait: Callable[[int | None], None], deadline: float, path: Path) -> None:
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                on_wait(_owner(descriptor))
                told = True
            if time.monotonic() >= deadline:
                raise CommandError(
                    f"another sallyport process holds {path} for too long; end it and try again"
                ) from None
            time.sleep(LOCK_RETRY_SECONDS)
        else:
            return


def _owner(descriptor: int) -> int | None:
    try:
        owner = json.loads(os.pread(descriptor, 200, 0))["pid"]
    except (ValueError, KeyError, TypeError):
        return None
    return owner if isinstance(owner, int) else None
