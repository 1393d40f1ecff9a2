"""Runs untrusted ARC programs: Python text that defines `transform(grid)`, written by a model.

Host (trusted) -> zygotes (one per core) -> one child per program. A zygote is a fresh interpreter
that has imported numpy, the DSL and the usual modules, and then has walled itself in, once. A child
is a fork of it: it gets a CPU timer and a system call filter, runs one program on its inputs and
ends. The host judges what it sends back: expected outputs never leave the host, and only grids and
short texts can come back.

Covered, with seccomp alone, as an unprivileged user; the other layers are second and third walls:
  time       endless loops in Python or C, caught exceptions, masked signals, sleeping and deadlock
             (by CPU time and wall time)
  memory     big, creeping and recursive allocations (address space above the bare interpreter)
  files      no file, directory, device or /proc entry can be opened, looked at, made or changed
  processes  no second process or thread, no signal, no tracing, no execution, no executable memory
  network    no socket of any family
  host       nothing of its memory, environment or descriptors exists in the zygote; the bytes of
             the child are never unpickled
  others     a program cannot change what the next one sees: each starts from the same untouched
             process, and shares no memory and no pipe with another
  chance     seeded generators, counted clocks, one thread; what else may decide, such as addresses,
             string hashes and memory that nobody filled, shows in a second run in another
             interpreter
  workers    one that is killed, stopped or stuck costs its program a second try, nothing else

Not covered:
  faults of the kernel in the three dozen calls that remain; timing side channels
  the order of a set of built-in types: the same in every run of one interpreter, not on another
  chance with few answers to choose from (the order of two objects, the second of a clock): both
  runs may give the same one
  programs that need a module which is not preloaded (`preload=`); GPUs
  level no-seccomp (refused unless accepted by name): signals to the same user's processes, sockets
  where namespaces are refused too, clocks and limits that a program can disarm (the wall limit
  stays)
  aarch64: its table of calls was checked by an interpreter of the filter, never on such a machine
"""

from appliance.program.sandbox.frames import SEVERITY, Result
from appliance.program.sandbox.runner import Limits, Program, Sandbox, sandbox_report

__all__ = ["SEVERITY", "Limits", "Program", "Result", "Sandbox", "sandbox_report"]
