"""A real HTCondor pool on this machine, gone when it is closed.

Its daemons have namespaces of their own, and no network.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from appliance.clock import Deadline, SystemClock
from tests.support.hpc.rootfs import USER, entering, pool_machine

CONFIG = """
UID_DOMAIN = test.pool
FILESYSTEM_DOMAIN = test.pool
NETWORK_HOSTNAME = localhost
NUM_CPUS = 4
MEMORY = 32768
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
STARTER_UPDATE_INTERVAL = 1
SHADOW_QUEUE_UPDATE_INTERVAL = 1
UPDATE_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 2
DAGMAN_USER_LOG_SCAN_INTERVAL = 1
DAGMAN_SUBMIT_DELAY = 0
"""
# Names come from files alone, because a name server that does not answer costs HTCondor five
# minutes at its start.
INIT = """
set -e
hostname testpool
ip link set lo up
echo '127.0.0.1 localhost testpool' > /etc/hosts
printf 'passwd: files\\ngroup: files\\nshadow: files\\nhosts: files\\n' > /etc/nsswitch.conf
rm -f /etc/resolv.conf; : > /etc/resolv.conf
mkdir -p -m 1777 /run/lock
mkdir -p /run/condor /var/lock/condor /var/log/condor
chown condor:condor /run/condor /var/lock/condor /var/log/condor
rm -rf /var/log/condor/* "$(condor_config_val SPOOL)"/* "$(condor_config_val EXECUTE)"/*
# This shell stays the first process: it is killed with its parent. condor_master would not be,
# because it changes its user.
condor_master -f & master=$!
trap 'kill -TERM $master' TERM
wait $master || wait $master || true
"""


class Pool:
    """A pool for the time of a `with`."""

    def __init__(self, binds: Mapping[Path, str]) -> None:
        """binds: folders of this machine that its user sees, with the paths they have there."""
        self._root = pool_machine()
        self._binds = binds
        self._outer: subprocess.Popen[bytes] | None = None
        self._lock = (self._root.parent / "pool.lock").open("w")
        self._init = 0

    def __enter__(self) -> Pool:
        # One pool at a time: two sets of daemons on one spool run every job twice.
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self._root / "etc/condor/config.d/99-test").write_text(CONFIG)
        namespaces = ["--net", "--uts", "--ipc"]
        command = entering(self._root, ["sh", "-c", INIT], binds=self._binds, namespaces=namespaces)
        self._outer = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self._wait(lambda: bool(children.read_text().strip()), "namespaces", 10)
        self._init = int(children.read_text().split()[0])
        self._wait(self._is_up, "daemons", 60)
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._init, signal.SIGTERM)
        try:
            if self._outer:
                self._outer.wait(15)
        except subprocess.TimeoutExpired:
            os.kill(self._init, signal.SIGKILL)
            if self._outer:
                self._outer.wait()
        finally:
            self._lock.close()

    def run(self, command: str, *, folder: str = f"/home/{USER}", check: bool = True) -> str:
        """Standard output of a shell command of the pool's user; RuntimeError if it fails."""
        shell = ["sh", "-c", f"cd {shlex.quote(folder)} && {command}"]
        done = subprocess.run(
            [*self._inside(), *shell],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: code {done.returncode}\n{done.stdout}\n{done.stderr}")

        return done.stdout

    @property
    def root(self) -> Path:
        """Its file system as this machine sees it, bound folders and all."""
        return Path(f"/proc/{self._init}/root")

    def put_command(self, name: str, folder: Path) -> None:
        """Write a program there that runs the pool's own command of that name, as its user."""
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join([*self._inside(), name])} "$@"\n')
        program.chmod(0o755)

    def _inside(self) -> list[str]:
        """What is written before a command that the pool's user runs."""
        inside = ["nsenter", "--target", str(self._init), f"--root={self.root}"]
        inside += [f"--wd={self.root}", "--mount", "--pid", "--net", "--uts", "--ipc"]
        path = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        variables = ["env", "-i", path, f"HOME=/home/{USER}", f"USER={USER}"]
        return [*inside, *variables, "setpriv", "--reuid", USER, "--regid", USER, "--init-groups"]

    def wait_for(self, command: str, wanted: str, *, folder: str, seconds: float = 120) -> None:
        """Wait until that text stands in the command's output."""
        self._wait(
            lambda: wanted in self.run(command, folder=folder, check=False),
            f"{wanted!r} in {command}",
            seconds,
        )

    def _is_up(self) -> bool:
        return bool(self.run("condor_status -af Name && condor_q >/dev/null", check=False).strip())

    @staticmethod
    def _wait(is_there: Callable[[], bool], what: str, seconds: float) -> None:
        clock = SystemClock()
        deadline = Deadline(clock.now() + seconds, clock)
        while not is_there():
            if deadline.is_past():
                raise TimeoutError(f"{what} not there after {seconds:g} s")
            clock.sleep(0.25)
