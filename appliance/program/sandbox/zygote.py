"""The warmed interpreter: it imports once, walls itself in once, then forks one child per job.

`zygote_client` starts it with a clean environment, by way of `start`, and it ends when the host
goes away. It holds no program, no grid and no answer: the child reads its own job from the control
socket, and what the child wrote is passed on from a private mapping whose pages are then given
back. Nothing that a child can write is seen by the next: each has a pipe of its own, and no memory
is shared.
"""

from __future__ import annotations

import fcntl
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path

from appliance.clock import SystemClock
from appliance.program.sandbox import child, frames, linux
from appliance.program.sandbox.chance import foul_memory, move_clocks, risky_names
from appliance.program.sandbox.layers import IsolationLayer, isolate, limit_memory
from appliance.program.sandbox.policy import program_policy
from appliance.program.sandbox.preload import preload, remove_chance

_CONTROL_FD = 4  # low, so that a child that closes all up to the limit of descriptors closes it
_LEAST_SHARE = 0.002  # of a core; a child with less is waiting, not working
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ, <linux/fcntl.h>


def main() -> None:
    """Stands up and serves until the host hangs up.

    argv: descriptor of the control socket, options as JSON (those of `ZygoteOptions`, and
    empty_folder).
    """
    # Ctrl-C is for the host; a zygote ends when the host hangs up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(int(sys.argv[1]), _CONTROL_FD)
    if int(sys.argv[1]) != _CONTROL_FD:
        os.close(int(sys.argv[1]))

    control = socket.socket(fileno=_CONTROL_FD)
    options = json.loads(sys.argv[2])

    # Everything is imported before the walls stand: behind them no file can be opened.
    missing = preload(tuple(options["modules"]))
    # Not by psutil: untrusted programs are forked from here, and get no package that they can use.
    baseline_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    layers = isolate(options["empty_folder"])
    limit_memory(options["memory_bytes"], baseline_bytes)
    os.dup2(0, 2)  # from here on nobody reads complaints; 0 and 1 are /dev/null since the start
    remove_chance(options["seed"])  # after the forks above, which seed `random` anew
    risky = risky_names()
    if options["is_second"]:
        foul_memory()
        move_clocks()
    filter_ = linux.Filter(program_policy(linux.MACHINE))
    layers.append(_try_filter(filter_))

    report = {"layers": [asdict(layer) for layer in layers], "missing": missing}
    control.sendall(json.dumps(report).encode() + b"\n")

    gc.collect()
    gc.freeze()  # the collector of a child leaves the shared pages alone
    _serve(control, options["wall_s"], filter_ if layers[-1].in_force else None, risky)


def _try_filter(filter_: linux.Filter) -> IsolationLayer:
    """Does the kernel take the filter? Loaded in a fork, because it cannot be taken back."""
    pid = linux.fork()
    if pid == 0:
        try:
            filter_.load()
            os._exit(0)
        finally:
            os._exit(1)

    refused = os.waitpid(pid, 0)[1]
    return IsolationLayer(
        "seccomp", not refused, "refused by the kernel" if refused else "per program"
    )


def _serve(
    control: socket.socket, wall_s: float, filter_: linux.Filter | None, risky: frozenset[str]
) -> None:
    """A fork per job, one at a time, until the host closes its end; what still runs is killed."""
    timer = linux.CpuTimer()
    # Private: what a child writes into its view of it, through the frames below it, is seen by
    # nobody else. A mapping, because pages that were never touched cost a fork nothing.
    buffer = mmap.mmap(-1, frames.MAX_ANSWER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    jobs = select.poll()
    jobs.register(control, select.POLLIN | select.POLLRDHUP)

    while not jobs.poll()[0][1] & (select.POLLRDHUP | select.POLLHUP):
        if not _run_one(control, buffer, wall_s, timer=timer, filter_=filter_, risky=risky):
            return


def _run_one(
    control: socket.socket,
    buffer: mmap.mmap,
    wall_s: float,
    *,
    timer: linux.CpuTimer,
    filter_: linux.Filter | None,
    risky: frozenset[str],
) -> bool:
    """One program, from the job in the socket to its answer; False when the zygote must end.

    A function of its own, so that the next child finds nothing of this program in the frames from
    which it was forked.
    """
    # Not blocking: a full pipe drops answers, so that no program can hold up the zygote.
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _widen(read_end)
    clock = SystemClock()
    started_s = clock.now()
    pid = linux.fork()
    if pid == 0:
        # Never returns.
        child.run(control.fileno(), write_end, timer=timer, filter_=filter_, risky=risky)

    os.close(write_end)
    watch = select.poll()
    watch.register(control, select.POLLRDHUP)
    watch.register(read_end, 0)  # reports only the hang-up: the last writer, the child, is gone
    events = _wait(watch, pid, wall_s, control)
    os.kill(pid, signal.SIGKILL)  # no effect on one that has ended
    if any(fd == control.fileno() for fd, _ in events):
        return False

    _, status, usage = os.wait4(pid, 0)
    length = os.readv(read_end, [buffer])
    os.close(read_end)
    if not length or buffer[0] != frames.READY:
        # The child left its job half read: what follows in the socket may be no job.
        return False

    cpu_s = usage.ru_utime + usage.ru_stime
    head = frames.ANSWER.pack(
        status, not events, cpu_s, clock.now() - started_s, usage.ru_maxrss, length
    )
    # From the mapping to the socket, not by way of the heap, where the next child would find it.
    with memoryview(buffer) as view, view[:length] as answer:
        num_sent = control.sendmsg([head, answer])  # at once, so that the host wakes up once
        control.sendall(head[num_sent:])
        control.sendall(answer[max(num_sent - len(head), 0) :])
    buffer.madvise(mmap.MADV_DONTNEED)  # the pages are gone, and read as zeros
    return True


def _wait(
    watch: select.poll, pid: int, wall_s: float, control: socket.socket
) -> list[tuple[int, int]]:
    """What happened first; nothing when the wall time passed and the child hardly ran in it.

    A child that does run, if slowly because the machine is busy, gets more wall time: its CPU limit
    will end it. The host hears each second that the zygote lives.
    """
    used_s, waited_s = 0.0, 0.0
    while not (events := watch.poll(1000 * min(wall_s, frames.BEAT_S))):
        control.sendall(frames.ANSWER.pack(0, 0, 0.0, 0.0, 0, 0))
        waited_s += min(wall_s, frames.BEAT_S)
        if waited_s < wall_s:
            continue

        before_s, used_s, waited_s = used_s, linux.cpu_time_s(pid), 0.0
        if used_s - before_s < wall_s * _LEAST_SHARE:
            break
    return events


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, _SET_PIPE_SIZE, frames.MAX_ANSWER_BYTES)
    except PermissionError:
        return  # over the user's share of pipe memory; 64 KiB hold the answers to 70 inputs
