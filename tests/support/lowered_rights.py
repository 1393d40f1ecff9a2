"""A process that loses rights, runs hostile programs and prints what came of them as JSON.

usage: python -m tests.support.lowered_rights REFUSED[,REFUSED...] ACCEPT_LEVEL FILE

FILE is one that no program may be able to read.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

from appliance.errors import PrerequisiteError
from appliance.program.sandbox import Program, Sandbox, linux, policy
from tests.support.attacks import ATTACKS, FILES, NETWORK, PROCESSES, PROTOCOL
from tests.support.sandbox_host import ATTACK_MODULES, CONTROL, INPUTS, spoken

PR_SET_SECCOMP = 22
"""The first argument of prctl() in the older way to load a filter."""

# (x86-64, aarch64) numbers of the calls that a container may refuse.
_CALLS = {
    "namespaces": {"unshare": (272, 97), "mount": (165, 40), "pivot_root": (155, 41)},
    "chroot": {"chroot": (161, 51)},
    "setuid": {"setresuid": (117, 147), "setuid": (105, 146), "setgroups": (116, 159)},
    "landlock": {"create": (444, 444), "restrict": (446, 446)},
    "seccomp": {"seccomp": (317, 277), "prctl": (157, 167)},
}
# What may be tried without the filter: loops, memory, nonsense. Against the other attacks only the
# filter helps, so without it they are left out.
_TAME = (
    "list that grows",
    "endless product",
    "leaves at once",
    "jumps to nowhere",
    "kill the parent",
    "half an answer",
)


def refuse(names: list[str]) -> None:
    """From now on the kernel refuses these calls with EPERM.

    It answers those of Landlock with ENOSYS, as a kernel does that does not know them.
    """
    column = list(policy.AUDIT_ARCH).index(linux.MACHINE)
    rules = {}
    for name in names:
        error = errno.ENOSYS if name == "landlock" else errno.EPERM
        for call, numbers in _CALLS[name].items():
            no = policy.refuse(error)
            if call == "prctl":
                rules[numbers[column]] = policy.answer_if_argument(
                    0, (PR_SET_SECCOMP,), policy.ALLOW, listed=no
                )
            else:
                rules[numbers[column]] = policy.answer(no)
    linux.forbid_new_privileges()
    linux.Filter(policy.assemble(rules, policy.answer(policy.ALLOW), linux.MACHINE)).load()


def main() -> None:
    refuse([name for name in sys.argv[1].split(",") if name])
    marker = Path(sys.argv[3])

    reader = f"def transform(g):\n    return [[7]] if open({str(marker)!r}).read() else g\n"
    try:
        sandbox = Sandbox(workers=1, preload=ATTACK_MODULES, accept_level=sys.argv[2] or None)
    except PrerequisiteError as error:
        print(json.dumps({"refused": str(error)}))
        return

    with sandbox:
        attacks = [*PROCESSES, *FILES, *NETWORK, *PROTOCOL]
        if sandbox.level == "no-seccomp":
            attacks = [a for a in ATTACKS if a.name in _TAME]
        order = [Program(source, INPUTS) for a in attacks for source in (a.source, CONTROL)] + [
            Program(reader, INPUTS)
        ]
        results = list(sandbox.run(order))

    rows = {x.name: x.in_force for x in sandbox.report}
    ends = {
        a.name: [
            r.outcome,
            r.outcome in a.ends,
            any(g is not None and g.tolist() == [[7]] for g in r.outputs),
        ]
        for a, r in zip(attacks, results[::2], strict=False)
    }
    controls = sorted({spoken(r) for r in results[1::2]})
    read = any(g is not None and g.tolist() == [[7]] for g in results[-1].outputs)
    report = {
        "level": sandbox.level,
        "rows": rows,
        "ends": ends,
        "controls": controls,
        "read": read,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
