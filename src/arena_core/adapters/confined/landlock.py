"""Files that a confined process may open: Linux's Landlock, where the kernel has it."""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
"""The numbers of the system calls, the same on all machines."""
_VERSION_ONLY = 1
_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
_MAKE_FILE, _TRUNCATE = 1 << 8, 1 << 14
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights there are, by version of the interface."""
_RIGHTS_NOW = 16
_NETWORK_SINCE, _NETWORK = 4, 0b11
_SCOPES_SINCE, _SCOPES = 6, 0b11
"""Sockets without a file, and signals, to processes outside."""

_READ = _READ_FILE | _READ_FOLDER
_WRITE = _READ | _WRITE_FILE | _MAKE_FILE | _TRUNCATE
_OF_A_FILE = _WRITE_FILE | _READ_FILE | _TRUNCATE


def forbid_files(readable: Iterable[Path], writable: Path) -> bool:
    """Forbid this thread, and those that it starts, all files but those below these.

    In the folder `writable` files can be made too, but no folders, links or devices;
    they stay there, for one that is removed while it is open still takes its room.
    On newer kernels no TCP connection can be made, and no signal sent outside.
    Returns whether it could be done; `PR_SET_NO_NEW_PRIVS` must be set before.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version: int = libc.syscall(_CREATE, None, 0, _VERSION_ONLY)
    if sys.platform != "linux" or version < 1:
        return False
    rights = (1 << _RIGHTS.get(version, _RIGHTS_NOW)) - 1
    attributes = struct.pack("=Q", rights)
    if version >= _NETWORK_SINCE:
        attributes += struct.pack("=Q", _NETWORK)
    if version >= _SCOPES_SINCE:
        attributes += struct.pack("=Q", _SCOPES)
    rules: int = libc.syscall(_CREATE, attributes, len(attributes), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            _allow(libc, rules, path, _READ & rights)
        _allow(libc, rules, writable, _WRITE & rights)
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: Path, allowed: int) -> None:
    """Allow what is there.  A path that leads nowhere allows nothing."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_A_FILE
        libc.syscall(
            _ADD_RULE, rules, _BENEATH, struct.pack("=Qi", allowed, descriptor), 0
        )
    finally:
        os.close(descriptor)
