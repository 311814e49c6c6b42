"""System calls that a confined process may not make: a filter in the kernel.

Whatever code comes to run in the process, Python or not, it can open no socket, start
no program and no process, and reach into no other one.  The filter can't be taken off.
Linux on x86-64 and arm64 only.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence

from attrs import frozen

_FORBIDDEN = {
    # The network, and sockets of this machine.
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203),
    "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # Rings of requests, which would pass by this filter.
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Programs and processes.
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None),
    "vfork": (58, None), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "kcmp": (312, 272), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "setpriority": (141, 140), "ioprio_set": (251, 30),
    # What others of this user share in memory.
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195),
    "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "mq_open": (240, 180),
    "mq_unlink": (241, 181), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218),
    # Memory and files without a name, which no limit counts and nobody finds; and
    # folders, too deep or too closed for whoever clears up.
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "unlink": (87, None),
    "unlinkat": (263, 35), "rmdir": (84, None), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "fallocate": (285, 47),
    "mkdir": (83, None), "mkdirat": (258, 34),
    # Its own limits and rights.
    "prctl": (157, 167), "setrlimit": (160, None), "capset": (126, 91),
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145),
    "setregid": (114, 143), "setresuid": (117, 147), "setresgid": (119, 149),
    "setgroups": (116, 159), "setfsuid": (122, 151), "setfsgid": (123, 152),
    "personality": (135, 92), "unshare": (272, 97), "setns": (308, 268),
    # Files that are not plain, and other ways to them than by name.
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None),
    "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "mount": (165, 40), "umount2": (166, 39), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "pivot_root": (155, 41), "chroot": (161, 51),
    # Modes, owners and times, which are not a matter of who may open a file.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463),
    "removexattrat": (466, 466), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88),
    # The kernel itself.
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "syslog": (103, 116), "fanotify_init": (300, 262),
    # What happens in folders that it may not read.
    "inotify_init": (253, None), "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
}  # fmt: skip
"""By name, the number on x86-64 and on arm64; None where there is none."""
_CLONE, _CLONE3, _KILL = (56, 220), (435, 435), (62, 129)
_OPEN, _OPENAT, _OPENAT2 = (2, None), (257, 56), (437, 437)
_FCNTL, _IOCTL = (72, 25), (16, 29)
_TGKILL, _PRLIMIT, _SECCOMP = (234, 131), (302, 261), (317, 277)

_CLONE_THREAD = 0x0001_0000
_WITHOUT_A_NAME = 0o20_000_000
"""Of O_TMPFILE, the bit that nothing else has."""
_SIGNALLING = (8, 10, 15, 1024, 1026)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE and F_NOTIFY: who else gets a signal."""
_RESERVING = (0x4030_5828, 0x4030_582A, 0x4030_5839)
"""FS_IOC_RESVSP, its twin of 64 bits and FS_IOC_ZERO_RANGE: `fallocate` once more."""
_X32 = 0x4000_0000
"""From here on, x86-64 kernels have the calls of another ABI."""
_SET_FILTER, _ALL_THREADS = 1, 1

# The instructions of the kernel's filters: code, jump if true, if false, operand.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _END_PROCESS, _REFUSE = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
"""Where they are in what a filter looks at."""


@frozen
class _Machine:
    column: int
    """Of the tables of numbers above."""
    audit: int
    """What the kernel calls its architecture."""


_MACHINES = {
    "x86_64": _Machine(0, 0xC000_003E),
    "aarch64": _Machine(1, 0xC000_00B7),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forbid_system_calls() -> bool:
    """Forbid them to every thread of this process, for ever.

    Returns whether it could be done; `PR_SET_NO_NEW_PRIVS` must be set before.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    instructions = b"".join(_filter(machine, os.getpid()))
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SECCOMP[machine.column]
    done: int = libc.syscall(number, _SET_FILTER, _ALL_THREADS, ctypes.byref(program))
    return done == 0


def _filter(machine: _Machine, pid: int) -> Iterator[bytes]:
    column = machine.column
    yield _do(_LOAD, _ARCHITECTURE)
    yield _do(_IF_EQUAL, machine.audit, 1, 0)
    yield _do(_RETURN, _END_PROCESS)
    yield _do(_LOAD, _NUMBER)
    yield from _when(_IF_AT_LEAST, _X32, [_refuse(errno.EPERM)])
    for numbers in _FORBIDDEN.values():
        number = numbers[column]
        if number is not None:
            yield from _when(_IF_EQUAL, number, [_refuse(errno.EPERM)])
    # Their flags are out of reach of a filter; without them, libraries turn to others.
    for unseen in (_CLONE3, _OPENAT2):
        yield from _when(_IF_EQUAL, unseen[column], [_refuse(errno.ENOSYS)])
    for opening, flags in ((_OPEN[column], 1), (_OPENAT[column], 2)):
        if opening is not None:
            nameless = _if_any(flags, _IF_SET, [_WITHOUT_A_NAME])
            yield from _when(_IF_EQUAL, opening, nameless)
    for asking, commands in ((_FCNTL, _SIGNALLING), (_IOCTL, _RESERVING)):
        refused = _if_any(1, _IF_EQUAL, commands)
        yield from _when(_IF_EQUAL, asking[column], refused)
    yield from _when(_IF_EQUAL, _CLONE[column], _unless(0, _IF_SET, _CLONE_THREAD))
    for signalling in (_KILL, _TGKILL):
        yield from _when(_IF_EQUAL, signalling[column], _unless(0, _IF_EQUAL, pid))
    yield from _when(_IF_EQUAL, _PRLIMIT[column], _only_reading_limits())
    yield _do(_RETURN, _ALLOW)


def _when(test: int, operand: int, then: list[bytes]) -> Iterator[bytes]:
    """Yield `then`, which returns, if the test of what is loaded holds."""
    yield _do(test, operand, 0, len(then))
    yield from then


def _unless(argument: int, test: int, operand: int) -> list[bytes]:
    """Return what refuses unless the test of the lower half of an argument holds."""
    return [
        _do(_LOAD, _ARGUMENTS + 8 * argument),
        _do(test, operand, 1, 0),
        _refuse(errno.EPERM),
        _do(_RETURN, _ALLOW),
    ]


def _if_any(argument: int, test: int, operands: Sequence[int]) -> list[bytes]:
    """Return what refuses if a test of the lower half of an argument holds."""
    tests = [
        _do(test, operand, len(operands) - place)
        for place, operand in enumerate(operands)
    ]
    return [
        _do(_LOAD, _ARGUMENTS + 8 * argument),
        *tests,
        _do(_RETURN, _ALLOW),
        _refuse(errno.EPERM),
    ]


def _only_reading_limits() -> list[bytes]:
    """Return what refuses unless the third argument, the new limits, is null."""
    low = _ARGUMENTS + 8 * 2
    return [
        _do(_LOAD, low),
        _do(_IF_EQUAL, 0, 0, 3),
        _do(_LOAD, low + 4),
        _do(_IF_EQUAL, 0, 0, 1),
        _do(_RETURN, _ALLOW),
        _refuse(errno.EPERM),
    ]


def _refuse(error: int) -> bytes:
    return _do(_RETURN, _REFUSE | error)


def _do(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
