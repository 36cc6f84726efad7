"""Start one command that ends when its starter ends, within limits.

A stand-alone script of the standard library; `processes` and `sandbox` run it by path. It has two stages. `guard`
stands between an agent and a command: as soon as its standard input closes - the agent closed it, or died by any signal
- everything the command started is killed. `confine` runs inside new namespaces: it makes the file system read-only
except for the folders named, gives the command scratch folders of its own, brings up the loopback interface, sets the
limits and becomes the command.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import sys
from pathlib import Path

__all__ = ["confine", "guard", "main"]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
CAPABILITIES_MAX = 64  # 41 are in use; dropping an unknown one only fails
MS_NOSUID, MS_NODEV = 0x2, 0x4
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SYS_MOUNT_SETATTR = 442  # the same number on every architecture
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY = 0x1
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1

SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")
"""Where every program may write. The command gets an empty one of each, which disappears with it."""
SCRATCH_BYTES_MAX = 512 * 1024**2
"""For each of them: it is memory."""


def main(arguments: list[str] | None = None) -> int:
    """Read the command line - a stage, its options, `--`, a command - and run the stage."""
    given = sys.argv[1:] if arguments is None else arguments
    # By hand: argparse would also remove a `--` that belongs to the command.
    at = given.index("--")
    parser = argparse.ArgumentParser(prog="launch")
    parser.add_argument("stage", choices=["guard", "confine"])
    parser.add_argument("--memory", type=int, default=0, help="bytes of address space of each process")
    parser.add_argument("--cpu", type=int, default=0, help="seconds of processor time of each process")
    parser.add_argument("--file-size", type=int, default=0, help="bytes of the largest file")
    parser.add_argument("--read-only", action="store_true", help="make everything except --writable read-only")
    parser.add_argument("--writable", action="append", default=[], metavar="DIR")
    parser.add_argument("--readable", action="append", default=[], metavar="DIR", help="stays visible, even in /tmp")
    parser.add_argument("--loopback", action="store_true", help="bring up the loopback interface")
    options = parser.parse_args(given[:at])
    options.command = given[at + 1 :]
    if options.stage == "confine":
        return confine(options)
    return guard(options)


def guard(options: argparse.Namespace) -> int:
    """Run the command in its own session; return its exit code, 128 + N if signal N ended it, 130 if we did."""
    _become_reaper()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = os.fork()
    if child == 0:
        _become(options)
    lifeline = sys.stdin.fileno()
    status = None
    while status is None:
        ready, _, _ = select.select([lifeline, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            ended, code = os.waitpid(child, os.WNOHANG)
            status = code if ended else None
        if status is None and lifeline in ready and not os.read(lifeline, 4096):
            _end(child)
            return 130
    _end(child)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def confine(options: argparse.Namespace) -> int:
    """Close what the new namespaces leave open, then become the command. Never returns."""
    if options.read_only:
        _protect_files(options.writable, options.readable)
    if options.loopback:
        _raise_loopback()
    _limit(options)
    _drop_privileges()
    os.execvp(options.command[0], options.command)


def _become(options: argparse.Namespace) -> None:
    """Turn the forked child into the command. Never returns."""
    try:
        os.setsid()
        if sys.platform == "linux":
            _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # The command must not read from the lifeline.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        _limit(options)
        os.execvp(options.command[0], options.command)
    except OSError as exc:
        os.write(2, f"{options.command[0]}: {exc}\n".encode())
    finally:
        os._exit(127)


def _end(child: int) -> None:
    """Kill the command's group, and on Linux also processes that left it but became ours when their parents died."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _limit(options: argparse.Namespace) -> None:
    wanted = ((resource.RLIMIT_AS, options.memory), (resource.RLIMIT_CPU, options.cpu))
    for kind, value in (*wanted, (resource.RLIMIT_FSIZE, options.file_size)):
        if value:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            with contextlib.suppress(ValueError, OSError):  # macOS knows RLIMIT_AS but rejects it
                resource.setrlimit(kind, (value, value))
    if options.memory:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _become_reaper() -> None:
    if sys.platform == "linux":
        _libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _protect_files(writable: list[str], readable: list[str]) -> None:
    """Make this mount namespace's file system read-only, except for some folders, and scratch space private."""
    libc, here = _libc(), str(Path.cwd())
    _checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "/")
    scratch = [path for path in SCRATCH if Path(path).is_dir() and not Path(path).is_symlink()]
    own = [os.path.realpath(path) for path in writable if Path(path).is_dir() and not Path(path).is_symlink()]
    # Opened before anything is mounted over them; outer folders first, because inner ones are mounted into them.
    seen = [os.path.realpath(path) for path in (*readable, here) if Path(path).is_dir()]
    opened = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in sorted({*own, *seen})}
    for path in scratch:
        size = f"mode=1777,size={SCRATCH_BYTES_MAX}".encode()
        _checked(libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", MS_NOSUID | MS_NODEV, size), path)
    for path, folder in opened.items():
        if path in own or any(Path(path).is_relative_to(top) for top in scratch):
            Path(path).mkdir(parents=True, exist_ok=True)
            source = f"/proc/self/fd/{folder}".encode()
            _checked(libc.mount(source, os.fsencode(path), None, MS_BIND | MS_REC, None), path)
    _set_read_only(b"/", AT_RECURSIVE, clear=False)
    for path in (*scratch, *own):
        _set_read_only(os.fsencode(path), 0, clear=True)
    os.chdir(here)  # the old working folder still belongs to the writable mount below


def _set_read_only(path: bytes, flags: int, *, clear: bool) -> None:
    fields = (0, MOUNT_ATTR_RDONLY) if clear else (MOUNT_ATTR_RDONLY, 0)
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", *fields, 0, 0), 32)
    result = _libc().syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path, flags, attributes, ctypes.c_size_t(32))
    _checked(result, path)


def _drop_privileges() -> None:
    """Give up the powers of the namespaces' root, such as making the file system writable again."""
    for capability in range(CAPABILITIES_MAX):
        _libc().prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    _checked(_libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | IFF_UP, b""))


def _checked(result: int, path: bytes | str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    sys.exit(main())
