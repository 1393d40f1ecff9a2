"""Hostile programs of our own: what each does is its name. One that gets through returns [[7]].

`ends` are the outcomes that are right; every program runs on two grids. Sources are the bodies of
`transform(g)` unless they define it themselves.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

REFUSED = frozenset({"ok", "error", "violation", "crash"})
"""Any of these ends will do, as long as the answer is not [[7]]."""


@dataclass(frozen=True)
class Attack:
    name: str
    source: str
    ends: frozenset[str]


def _attack(name: str, body: str, *ends: str) -> Attack:
    body = textwrap.dedent(body).strip()
    source = (
        body if "def transform" in body else "def transform(g):\n" + textwrap.indent(body, "    ")
    )
    return Attack(name, source + "\n", frozenset(ends) or REFUSED)


def _call(name: str, call: str) -> Attack:
    """An attack by one C call, which gets through when its result is not negative."""
    return _attack(
        name, f"import ctypes, os\nlibc = ctypes.CDLL(None)\nreturn [[7 if {call} >= 0 else 0]]"
    )


TIME = (
    _attack("loop in a destructor", """
        class A:
            def __del__(self):
                while True: pass
        def transform(g):
            a = A()
            del a
            return g
    """, "timeout"),
    _attack("loop while the answer is read", """
        class A:
            def __index__(self):
                while True: pass
            __int__ = __float__ = __index__
        def transform(g):
            return [[A()]]
    """, "timeout", "bad_output"),
    _attack("loop in the text of an error", """
        class E(Exception):
            def __str__(self):
                while True: pass
        def transform(g):
            raise E
    """, "timeout"),
    _attack("loop in a descriptor of the function", """
        class F:
            def __call__(self, g):
                while True: pass
        transform = F()
        # def transform
    """, "timeout"),
    _attack("loop in sorting", """
        return sorted(range(10**9), key=lambda x: -x)
    """, "timeout", "memory"),
    _attack("endless product", """
        import itertools
        return max(itertools.product(range(100), repeat=50))
    """, "timeout"),
    _attack("matrix product for minutes", """
        a = np.ones((2000, 2000))
        while True: a = a @ a
    """, "timeout"),
    _attack("colliding keys", """
        class K:
            def __hash__(self): return 1
            def __eq__(self, other): return False
        def transform(g):
            return len({K() for _ in range(10**6)})
    """, "timeout"),
    _attack("signals blocked, then a loop", """
        import signal
        try: signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        except OSError: pass
        while True: pass
    """, "timeout"),
    _attack("timers deleted, then a loop", """
        import ctypes
        libc = ctypes.CDLL(None)
        for i in range(64): libc.timer_delete(ctypes.c_void_p(i))
        while True: pass
    """, "timeout"),
    _attack("stops itself", """
        import ctypes
        getattr(ctypes.CDLL(None), 'raise')(19)
        return g
    """, "ok"),
    _attack("waits for a lock for ever", """
        import threading
        l = threading.Lock()
        l.acquire()
        l.acquire()
    """, "violation"),
    _attack("waits for input", "input()", "error", "violation"),
    _attack("waits for a child", "import os\nos.wait()", "error", "violation"),
    _attack("pauses", "import ctypes\nctypes.CDLL(None).pause()\nreturn g", "ok"),
)  # fmt: skip

MEMORY = (
    _attack("list that grows", "x = [0]\nwhile True: x += x", "memory", "timeout"),
    _attack("text that grows", "x = 'a'\nwhile True: x += x", "memory", "timeout"),
    _attack("wide repetition", "return np.repeat(np.repeat(g, 10**6, 0), 10**6, 1)", "memory"),
    _attack("deep recursion in C", """
        import sys, json
        sys.setrecursionlimit(10**9)
        x = []
        for _ in range(10**6): x = [x]
        return json.dumps(x)
    """, "crash", "error", "memory", "timeout"),
    _attack("deep recursion in repr", """
        import sys
        sys.setrecursionlimit(10**9)
        class A:
            def __repr__(self): return repr(self)
        def transform(g):
            return repr(A())
    """, "crash", "error", "memory"),
    _attack("error with a text of 100 MB", "raise ValueError('x' * 10**8)", "error", "memory"),
    _attack("error whose text fails", """
        class E(Exception):
            def __str__(self): raise SystemExit
        def transform(g):
            raise E
    """, "error"),
    _call("memory file", "libc.memfd_create(b'x', 0)"),
    _call("shared memory segment", "libc.shmget(0, 4096, 0o1777)"),
    _call("message queue", "libc.msgget(0, 0o1777)"),
    _call("semaphores", "libc.semget(0, 1, 0o1777)"),
    _call("named shared memory", "libc.shm_open(b'/pwned', 66, 0o777)"),
    _call("locked memory", "-1 if libc.mlockall(3) else 0"),
    _call(
        "executable memory",
        "-1 if libc.mmap(None, 4096, 7, 34, -1, 0) in (-1, 2**32 - 1) else 0",
    ),
    _call("memory made executable", "libc.mprotect(ctypes.c_void_p(id(libc) & 0), 0, 5)"),
)  # fmt: skip

PROCESSES = (
    _attack("daemon", """
        import os
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                while True: pass
        return [[7]]
    """),
    _call("fork", "libc.fork()"),
    _call("vfork", "libc.vfork()"),
    _call("clone by number", "libc.syscall(56, 17, 0, 0, 0, 0)"),
    _call("clone3 by number", "libc.syscall(435, ctypes.create_string_buffer(88), 88)"),
    _call("kill the parent", "libc.kill(libc.getppid(), 9)"),
    _call("kill everything", "libc.kill(-1, 9)"),
    _call("queue a signal", "libc.sigqueue(libc.getppid(), 10, 0)"),
    _call("handle of the parent", "libc.syscall(434, libc.getppid(), 0)"),
    _call("trace the parent", "libc.ptrace(16, libc.getppid(), 0, 0)"),
    _call(
        "read the parent's memory",
        "libc.process_vm_readv(libc.getppid(), ctypes.create_string_buffer(16), 1, 0, 1, 0)",
    ),
    _call("another personality", "libc.personality(0x0400000)"),
    _call("another system call filter", "-1 if libc.prctl(22, 1, 0, 0, 0) else 0"),
    _call("more rights again", "-1 if libc.setresuid(0, 0, 0) else 0"),
    _call("namespaces", "-1 if libc.unshare(0x10000000) else 0"),
    _call("kernel program", "libc.syscall(321, 0, 0, 0)"),
    _call("performance counters", "libc.syscall(298, 0, 0, -1, -1, 0)"),
    _call("fault handler", "libc.syscall(323, 0)"),
    _call("keys of the session", "libc.syscall(250, 0, -3, 0)"),
    _call("ring of system calls", "libc.syscall(425, 8, ctypes.create_string_buffer(256))"),
    _call("32-bit system call", "libc.syscall(0x40000000 | 39)"),
    _call("system call without a number", "libc.syscall(-1)"),
    _attack("executes a shell", """
        import os
        os.execv('/bin/sh', ['sh', '-c', 'true'])
    """, "violation"),
    _attack("executes by descriptor", "import os\nos.execve(1, ['x'], {})", "violation"),
    _attack("popen", "import os\nreturn [[7]] if os.popen('echo 1').read() else [[0]]"),
    _attack("runs other threads", """
        import _thread
        try: _thread.start_new_thread(print, ())
        except RuntimeError: return [[0]]
        return [[7]]
    """),
    _attack("raises its limits", """
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        return [[7]]
    """),
    _attack("leaves at once", "import os\nos._exit(0)", "exit"),
    _attack("leaves politely", "raise SystemExit('bye')", "exit"),
    _attack("jumps to nowhere", "import ctypes\nctypes.CFUNCTYPE(None)(1)()", "crash"),
    _attack("writes over itself", """
        import ctypes
        ctypes.memset(ctypes.addressof(ctypes.py_object(np)), 255, 1 << 30)
    """, "crash"),
)  # fmt: skip

FILES = (
    _attack("numpy reads a file", """
        np.fromfile('/etc/passwd', np.uint8)
        return [[7]]
    """, "violation", "error"),
    _attack("numpy maps a file", """
        np.memmap('/etc/passwd', np.uint8, 'r')
        return [[7]]
    """, "violation", "error"),
    _attack("looks for files", """
        import os
        found = 0
        access = lambda p: os.access(p, 0) or 1 / 0
        for look in (os.stat, os.lstat, os.listdir, os.readlink, os.statvfs, access):
            for path in ("/", "/etc/passwd", "/proc/self/exe", "/dev/null", "."):
                try: look(path); found = 7
                except (OSError, ZeroDivisionError): pass
        return [[found]]
    """, "ok"),
    _attack("makes files", """
        import os
        made = 0
        link, create = lambda p: os.symlink("x", p), lambda p: os.open(p, 66)
        for make in (os.mkdir, os.mkfifo, os.mknod, link, create):
            for folder in ("/tmp", "/dev/shm", "/var/tmp", "."):
                try: make(folder + "/pwned-made"); made = 7
                except OSError: pass
        return [[made]]
    """, "ok"),
    _attack("writes through what is open", """
        import os
        written = 0
        for fd in range(4, 256):
            write, read = lambda: os.write(fd, b"x"), lambda: os.read(fd, 1)
            cut, copy = lambda: os.ftruncate(fd, 0), lambda: os.dup(fd)
            for use in (write, read, cut, copy):
                try: use(); written = 7
                except OSError: pass
        return [[written]]
    """, "ok"),
    _attack("reads the environment", """
        import os
        in_text = any("SECRET" in k for k in os.environ)
        in_bytes = b"SECRET" in str(os.environb).encode()
        return [[7]] if in_text or in_bytes else [[0]]
    """, "ok"),
    _attack("imports what is not there", "import antigravity", "error"),
    _call("watch files", "libc.inotify_init()"),
    _call("current folder", "-1 if libc.getcwd(ctypes.create_string_buffer(99), 99) == 0 else 0"),
    _call("open by handle", "libc.open_by_handle_at(-100, ctypes.create_string_buffer(64), 0)"),
    _call("mount", "-1 if libc.mount(b'none', b'/', b'tmpfs', 0, None) else 0"),
)  # fmt: skip

NETWORK = (
    _call("pair of sockets", "libc.socketpair(1, 1, 0, ctypes.create_string_buffer(8))"),
    *(
        _call(f"socket of family {family}", f"libc.socket({number}, {kind}, 0)")
        for family, number, kind in (
            ("unix", 1, 1),
            ("inet", 2, 1),
            ("inet6", 10, 2),
            ("netlink", 16, 3),
            ("packet", 17, 3),
            ("alg", 38, 5),
            ("vsock", 40, 1),
        )
    ),
)

PROTOCOL = (
    _attack("answers twice for each input", """
        import os, struct
        frame = struct.pack("<BH", 10, 5) + bytes([1, 0, 1, 1, 5])
        for _ in range(4): os.write(3, frame)
        return g
    """, "bad_output"),
    _attack("answers for the next program", """
        import os, struct
        frame = struct.pack("<BH", 10, 5) + bytes([1, 0, 1, 1, 7])
        answer = struct.pack("<iBddII", 0, 0, 0.0, 0.0, 0, 2 * len(frame)) + frame * 2
        for _ in range(50): os.write(3, answer)
        os._exit(0)
    """, "bad_output"),
    _attack("fills the pipe", """
        import os
        try:
            while True: os.write(3, b"x" * 4096)
        except OSError: return g
    """, "bad_output", "exit"),
    _attack("half an answer", "import os\nos.write(3, b'\\x0a\\xff')\nos._exit(0)", "bad_output"),
    _attack("a grid that is none", """
        import os, struct
        os.write(3, struct.pack('<BH', 10, 4) + bytes([1, 0, 0, 0]))
        os._exit(0)
    """, "bad_output"),
    _attack("colour 200", """
        import os, struct
        os.write(3, struct.pack('<BH', 10, 5) + bytes([1, 0, 1, 1, 200]))
        os._exit(0)
    """, "bad_output"),
    _attack("claims that nothing was run", """
        import os, struct
        os.write(3, struct.pack('<BH', 1, 0) * 3)
        return g
    """, "ok"),
    _attack("prints ten megabytes", "print('x' * 10**7)\nreturn g", "ok"),
    _attack("patches the sandbox's own modules", """
        import sys
        for name, module in list(sys.modules.items()):
            if name.startswith("appliance"):
                for key in list(vars(module)): setattr(module, key, None)
        return g
    """, "ok", "exit", "error", "bad_output", "crash"),
)  # fmt: skip

OBJECTS = (
    _attack("class that lies about itself", """
        class A(list):
            @property
            def __class__(self): return np.ndarray
        def transform(g):
            return A([[7]])
    """, "bad_output"),
    _attack("masked array", "return np.ma.masked_array([[7]], [[True]])", "bad_output"),
    _attack("wrapped colour", "return np.array([[256 + 7]])", "bad_output"),
    _attack("negative colour", "return [[-249]]", "bad_output"),
    _attack("colour with a fraction", "return [[6.5]]", "bad_output"),
    _attack("infinite colour", "return [[float('inf')]]", "bad_output"),
    _attack("letters", "return ['77']", "bad_output"),
    _attack("a thousand dimensions", "return np.zeros((1,) * 40).tolist()", "bad_output", "error"),
    _attack("grid of grids", "return [[g]]", "bad_output"),
    _attack("lazy rows", "return [map(int, row) for row in g]", "bad_output"),
    _attack("empty rows", "return [[], []]", "bad_output"),
    _attack("the function itself", "return transform", "bad_output"),
    _attack("error with a hostile class name", """
        E = type("E" * 10**6, (Exception,), {"__str__": lambda self: "\\ud800" * 1000})
        def transform(g):
            raise E
    """, "error"),
)  # fmt: skip

# (what a program leaves in the interpreter, the code that does it)
_LEFT_BEHIND = (
    ("no builtins", "import builtins\nfor k in list(vars(builtins)): delattr(builtins, k)"),
    ("another len", "import builtins\nbuiltins.len = builtins.isinstance = lambda *a: 7"),
    (
        "another int",
        "import ctypes\nctypes.memset(id.__self__.__dict__['len'].__hash__() and id(1), 7, 0)",
    ),
    (
        "other small numbers",
        "import ctypes\n(ctypes.c_int * 1).from_address(object.__sizeof__(1) and 1 << 47)",
    ),
    ("no modules", "import sys\nsys.modules.clear()\nsys.path[:] = []"),
    ("another DSL", "import dsl\nfor k in list(vars(dsl)): setattr(dsl, k, None)"),
    ("another numpy", "np.rot90 = np.array = np.asarray = np.ndarray = None"),
    ("strict floats", "np.seterr(all='raise')"),
    ("another seed", "import random\nrandom.seed(99)\nnp.random.seed(99)\nrandom.random()"),
    ("busy exit handlers", "import atexit\natexit.register(lambda: [None for _ in iter(int, 1)])"),
    ("a tracer", "import sys\nsys.setprofile(lambda *a: None)\nsys.settrace(lambda *a: None)"),
    ("a short stack", "import sys\nsys.setrecursionlimit(50)"),
    ("a deaf collector", "import gc\ngc.disable()\ngc.unfreeze()"),
)
STATE = tuple(
    _attack(
        f"leaves behind: {what}",
        code + "\ndef transform(g):\n    return g",
        *("ok", "error", "bad_output", "exit", "crash"),
    )
    for what, code in _LEFT_BEHIND
)

ATTACKS = TIME + MEMORY + PROCESSES + FILES + NETWORK + PROTOCOL + OBJECTS + STATE
