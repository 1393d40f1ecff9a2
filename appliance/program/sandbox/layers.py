"""The walls around a zygote, put up once.

Each is tried, checked in place and reported; none is taken for granted.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.program.sandbox import linux

UNUSED_ID = 65_533
"""User and group of nobody, inside the range of ids of a container with remapped users."""

_NAMESPACES = (
    linux.NEW_MOUNT | linux.NEW_CGROUP | linux.NEW_UTS
    | linux.NEW_IPC | linux.NEW_PID | linux.NEW_NET
)  # fmt: skip


@dataclass(frozen=True)
class IsolationLayer:
    """One wall around a zygote."""

    name: str
    in_force: bool
    detail: str  # the evidence, or the reason why it is not in force


def isolate(empty_folder: str) -> list[IsolationLayer]:
    """Takes from this process all it can do without; on return nothing can be opened any more.

    empty_folder: an empty directory to chroot into where namespaces are refused.

    With namespaces the process goes on as their first process, in a fork; the original only waits
    for its end.
    """
    spaces = _checked(
        _try("namespaces", _enter_namespaces),
        lambda: os.getpid() == 1,
        "other processes are visible",
    )

    root = _try(
        "empty root",
        linux.enter_empty_root if spaces.in_force else lambda: _enter_by_chroot(empty_folder),
    )
    report = [spaces, _checked(root, lambda: not any(Path("/").iterdir()), "files are visible")]

    # In this order, because the steps need rights that later ones take away.
    report.append(_try("no bounding capabilities", linux.drop_bounding_capabilities))
    if os.getuid() == 0:
        user = _try("other user", _become_nobody)
        report.append(_checked(user, lambda: _is_refused(lambda: os.setuid(0)), "can become root"))
    capabilities = _try("no capabilities", linux.drop_capabilities)
    report.append(
        _checked(capabilities, lambda: _is_refused(lambda: os.chroot("/")), "can change the root")
    )

    privileges = _try("no new privileges", linux.forbid_new_privileges)
    report.append(_checked(privileges, linux.has_no_new_privileges, "not set"))
    landlock = _try("landlock", lambda: f"ABI {linux.landlock_nothing()}")
    report.append(_checked(landlock, lambda: _is_refused(_open_the_root), "files open"))
    linux.forbid_tracing()
    if spaces.in_force:
        linux.die_with_parent()  # once more: the kernel forgets it when a process changes its user
    return report


def limit_memory(extra_bytes: int, baseline_bytes: int) -> None:
    """Resource limits that every child inherits.

    They limit the address space, and forbid files, dumps, locked memory and message queues.
    """
    for limit, value in (
        (resource.RLIMIT_AS, baseline_bytes + extra_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def _try(name: str, put_up: Callable[[], str | None]) -> IsolationLayer:
    try:
        return IsolationLayer(name, True, put_up() or "")
    except OSError as error:
        return IsolationLayer(name, False, f"refused: {error.strerror or error}")


def _checked(layer: IsolationLayer, holds: Callable[[], bool], fault: str) -> IsolationLayer:
    """The layer, in force only if the check says so: a call that succeeds proves nothing yet."""
    if not layer.in_force or holds():
        return layer
    return IsolationLayer(layer.name, False, f"accepted but without effect: {fault}")


def _enter_namespaces() -> str:
    """Goes on in namespaces of its own, in a fork; returns how they were got."""
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid != 0:
            raise PermissionError
        linux.unshare(_NAMESPACES)
        kind = "as root"
    except PermissionError:
        linux.unshare(_NAMESPACES | linux.NEW_USER)
        linux.map_ids(uid, gid, inside=uid)
        kind = "with a user namespace"

    # The first process of the namespaces is the fork; this one stands for it before the host.
    pid = os.fork()
    if pid:
        os.closerange(3, 64)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)

    linux.die_with_parent()
    return kind


def _enter_by_chroot(empty_folder: str) -> str:
    os.chroot(empty_folder)
    os.chdir("/")
    return "chroot"


def _become_nobody() -> str:
    os.setgroups([])
    os.setresgid(UNUSED_ID, UNUSED_ID, UNUSED_ID)
    os.setresuid(UNUSED_ID, UNUSED_ID, UNUSED_ID)
    return f"uid {UNUSED_ID}"


def _open_the_root() -> None:
    os.close(os.open("/", os.O_RDONLY))


def _is_refused(call: Callable[[], None]) -> bool:
    try:
        call()
    except PermissionError:
        return True
    return False
