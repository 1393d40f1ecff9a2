"""The first lines of a zygote: what None, Ellipsis and NotImplemented hash to, before any import.

Before Python 3.12 the hash of None is its address, like that of the other two still. Where the
interpreter is loaded at a fixed address (Debian's is) no other interpreter differs in it; elsewhere
it differs, but the order of a small set that holds such a hash is one of few (81 for nine pairs of
None and a number), so that by accident one second run in 57 gave the answer of the first. Here the
hash is one number in interpreters for first runs and another in those for second runs: a program
that depends on it is seen always, on every machine.

Run by its path, not as a module, because what is imported first would keep the old hashes in its
constants and tables. argv: see `zygote.main`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys

# C functions take the place of the hash function, because one written in Python would need
# executable memory. Both are documented to give one number for these arguments; as a hash it is
# the first place of any table, and nearly the last.
FIRST, FIRST_HASH = "PyCallable_Check", 0
SECOND, SECOND_HASH = "PyTraceMalloc_Untrack", 2**32 - 2  # -2, for tracemalloc is off, in 32 bits

_CONSTANTS = (None, ..., NotImplemented)
_BY_ADDRESS = ("_Py_HashPointer", "PyObject_GenericHash")  # up to Python 3.12, and from 3.13 on
_TP_HASH = 15  # where a type keeps its hash function, in words from its start, <cpython/object.h>


def fix_hashes(function: str) -> None:
    """Lets that function of the interpreter hash None, Ellipsis and NotImplemented.

    Only those that are hashed by their address; an interpreter that keeps its types in another form
    is left alone.
    """
    by_address = [_address(name) for name in _BY_ADDRESS if hasattr(ctypes.pythonapi, name)]
    slots = [
        ctypes.c_void_p.from_address(id(type(x)) + _TP_HASH * ctypes.sizeof(ctypes.c_void_p))
        for x in _CONSTANTS
    ]
    holders = [d for d in gc.get_objects() if type(d) is dict and any(x in d for x in _CONSTANTS)]

    for slot in slots:
        if slot.value in by_address:
            slot.value = _address(function)

    # Their keys stand where the old hashes put them. There is one of ctypes, at the least.
    for holder in holders:
        items = tuple(holder.items())
        holder.clear()
        holder.update(items)


def _address(function: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, function), ctypes.c_void_p).value or 0


if __name__ == "__main__":
    fix_hashes(SECOND if json.loads(sys.argv[2])["is_second"] else FIRST)

    from appliance.program.sandbox.zygote import main

    main()
