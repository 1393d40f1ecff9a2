"""Which programs must run a second time, because something besides their inputs may decide.

Addresses (the order of a set of plain objects, `repr` of a function, `hash(None)` before Python
3.12), string hashes, clocks, memory that nobody filled: a program that can get at any of these runs
again in an interpreter where all of them are different. The others run once, which is half the
price. What tells them apart is a list of what is *harmless*, so that whatever nobody thought of is
run twice.

The child looks at the compiled program before it runs: a name is harmless if it is in the list
below, or if nothing in the interpreter bears it, because then it is the program's own.
"""

from __future__ import annotations

import array
import builtins
import collections
import dis
import functools
import itertools
import os
import re
import resource
import sys
import types

import numpy as np

_BUILTINS = """
abs all any bool complex dict divmod enumerate filter float int isinstance issubclass iter len list
map max min next pow print range reversed round slice sorted sum tuple zip
ArithmeticError AssertionError AttributeError Exception IndexError KeyError LookupError
NotImplementedError OverflowError RuntimeError StopIteration TypeError ValueError ZeroDivisionError
__name__
"""
_METHODS = """
append clear count copy endswith extend find get index insert isdigit islower isupper items join
keys lower lstrip pop popitem popleft appendleft appendright extendleft remove replace reverse
rotate rstrip setdefault sort split splitlines startswith strip title update upper values zfill
bit_count bit_length is_integer real imag numerator denominator
"""
_STANDARD = """
annotations __future__ collections defaultdict Counter deque OrderedDict elements most_common
subtract functools reduce partial lru_cache cache cmp_to_key cache_clear itertools accumulate chain
from_iterable combinations combinations_with_replacement compress count cycle dropwhile filterfalse
groupby islice pairwise permutations product repeat starmap takewhile zip_longest copy deepcopy
math typing Any Callable Dict Iterable Iterator List Optional Sequence Set Tuple Union
"""
_NUMPY = """
np numpy T abs absolute add all allclose any append apply_along_axis arange argmax argmin argsort
argwhere around array array_equal array_equiv array_split asarray ascontiguousarray astype at
atleast_1d atleast_2d average bincount bitwise_and bitwise_not bitwise_or bitwise_xor block bool_
broadcast_to ceil choose clip column_stack compress concatenate convolve copy copyto corrcoef count
count_nonzero cross cumprod cumsum delete diag diag_indices diagflat diagonal diff digitize divide
dot dsplit dstack dtype ediff1d empty empty_like equal expand_dims extract eye fill fill_diagonal
flat flatnonzero flatten flip fliplr flipud float32 float64 floor floor_divide fmod fromfunction
full full_like gcd greater greater_equal histogram hsplit hstack identity in1d inf indices inner
insert int16 int32 int64 int8 int_ integer interp intersect1d invert isclose isfinite isin isinf
isnan issubdtype item itemsize ix_ kron lcm less less_equal lexsort linspace logical_and logical_not
logical_or logical_xor mask_indices matmul max maximum mean median meshgrid mgrid min minimum mod
moveaxis multiply nan nan_to_num nanargmax nanmax nanmean nanmin nansum nbytes ndenumerate ndim
ndindex negative newaxis nonzero not_equal number ogrid ones ones_like outer packbits pad partition
percentile piecewise place power prod ptp put putmask quantile ravel ravel_multi_index reduce
reduceat remainder repeat reshape roll rollaxis rot90 round row_stack searchsorted
select setdiff1d setxor1d shape sign signedinteger size sort split sqrt square squeeze stack std
subtract sum swapaxes take take_along_axis tensordot tile tobytes tolist trace transpose
trapezoid tri tril tril_indices triu triu_indices trunc uint16 uint32 uint64 uint8 union1d unique
unpackbits unravel_index unsignedinteger vander var vectorize vsplit vstack where zeros zeros_like
"""
_SCIPY = """
scipy ndimage label find_objects binary_fill_holes binary_dilation binary_erosion binary_opening
binary_closing generate_binary_structure center_of_mass sum_labels maximum_filter minimum_filter
convolve
"""
_OURS = ("dsl", "common")  # pure; what they pass on of other modules is judged by its own name
_HARMLESS = frozenset(
    " ".join((_BUILTINS, _METHODS, _STANDARD, _NUMPY, _SCIPY)).split()
) | frozenset(n for n in dir(__import__("math")) if not n.startswith("_"))

# What a program can reach by the harmless names. Any other attribute that one of these has counts
# as risky, on whatever object it is used.
_REACHED = (
    builtins, np, np.ndarray, np.generic, np.int64, np.float64, np.bool_, np.dtype, np.ufunc,
    np.flatiter, np.vectorize, np.ndindex, np.random, itertools, functools, collections,
    collections.OrderedDict, collections.deque, collections.Counter, collections.defaultdict,
    functools.partial, functools.lru_cache(len), array, array.array, int, float, complex, bool,
    str, bytes, bytearray, memoryview, list, tuple, dict, set, frozenset, slice, range, type,
    object, OSError, ImportError, AttributeError, StopIteration, SyntaxError, UnicodeDecodeError,
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType,
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, types.CodeType,
    types.FrameType, types.TracebackType, types.GenericAlias, types.UnionType, types.CellType,
)  # fmt: skip

# Instructions that make a set, a text of any object or a class, or take arguments from a mapping.
_RISKY_OPS = frozenset(
    dis.opmap[name]
    for name in (
        "BUILD_SET", "SET_ADD", "SET_UPDATE", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC",
        "CONVERT_VALUE", "LOAD_BUILD_CLASS", "MATCH_CLASS", "DICT_MERGE",
    )
    if name in dis.opmap
)  # fmt: skip
# Between the views of a dictionary, & | ^ and - make a set.
_BINARY_OP = dis.opmap["BINARY_OP"]
_SET_OPS = frozenset((1, 7, 10, 12, 14, 20, 23, 25))  # NB_* of <opcode.h>, with &= |= -= ^=
_VIEWS = frozenset(("keys", "items"))

# Texts with a meaning: a format, arguments of numpy that leave memory as it was found, and types
# of numpy that turn any object into a text or name the clock.
_RISKY_TEXT = re.compile(
    r"%|^(where|empty|empty_like)$|^[<>=|]?[USaOVMmc]\d*(\[\w+\])?$"
    r"|^(str|bytes|unicode|object|datetime|timedelta|void)", re.DOTALL
)  # fmt: skip

# `ndarray` leaves memory as it was found when it is called; as a type it is harmless.
_NDARRAY = re.compile(r"\bndarray\b")
_NDARRAY_AS_TYPE = re.compile(
    r"(?:^|[(,])\s*\w+\s*:\s*(?:np\.|numpy\.)?ndarray\s*(?=[,)=])|->\s*(?:np\.|numpy\.)?ndarray\s*:"
    r"|\bisinstance\(\s*\w+\s*,\s*(?:np\.|numpy\.)?ndarray\s*\)",
    re.MULTILINE,
)


def risky_names() -> frozenset[str]:
    """All names of this interpreter that are not known to be harmless.

    To be called when everything that a program may import has been imported.
    """
    modules = [m for name, m in sys.modules.items() if name in _HARMLESS or name in _OURS]
    names = {name for place in (*_REACHED, *modules) for name in dir(place)}
    names |= set(sys.modules)
    names |= {part for name in tuple(names) for part in name.split(".")}

    own = {n for m in _OURS for n in getattr(sys.modules.get(m), "__all__", ())}
    own = {n for n in own if n not in sys.modules and not n.startswith("random")}
    return frozenset(names - _HARMLESS - own.difference(dir(builtins), dir(np)) - {*_OURS})


def may_vary(code: types.CodeType, source: str, risky: frozenset[str]) -> bool:
    """Whether something besides its inputs may decide what the program answers.

    source: its text. risky: what `risky_names` gives.
    """
    names: set[str] = set()
    parts, left = [], [code]
    while left:
        part = left.pop()
        parts.append(part.co_code)
        names.update(part.co_names)
        left += [constant for constant in part.co_consts if type(constant) is types.CodeType]
        if any(map(_is_risky, part.co_consts)):
            return True

    if "ndarray" in names:
        names.discard("ndarray")
        if len(_NDARRAY.findall(source)) != len(_NDARRAY_AS_TYPE.findall(source)):
            return True

    if not names.isdisjoint(risky) or any(n[:2] == "__" and n not in _HARMLESS for n in names):
        return True

    instructions = b"".join(parts)  # operation, argument, operation, argument, ...
    return not _RISKY_OPS.isdisjoint(instructions[::2]) or (
        not _VIEWS.isdisjoint(names)
        and any(
            operation == _BINARY_OP and argument in _SET_OPS
            for operation, argument in zip(instructions[::2], instructions[1::2], strict=True)
        )
    )


def _is_risky(constant: object) -> bool:
    kind = type(constant)
    if kind is str:
        return _RISKY_TEXT.search(constant) is not None  # type: ignore[call-overload]
    if kind is tuple:
        return any(map(_is_risky, constant))  # type: ignore[call-overload]
    if kind is frozenset:
        return not all(type(item) is int for item in constant)  # type: ignore[attr-defined]
    return kind is bytes


FOUL_BYTE = 0x40
"""Fills memory that nobody has written, where programs run a second time.

As any type of numpy it gives digits that differ from those of zeroed memory: 64 as a byte, 32.5 as
a float.
"""
SECOND_ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",  # another allocator, so that objects lie in another order
    "MALLOC_PERTURB_": str(FOUL_BYTE ^ 0xFF),  # glibc fills what it hands out, mallopt(3)
    "GLIBC_TUNABLES": f"glibc.malloc.perturb={FOUL_BYTE ^ 0xFF}",  # the same in newer ones
}
"""What the interpreters for second runs are told besides another hash seed."""

# numpy keeps that many blocks of each size below that many bytes for itself, see alloc.c.
_NUMPY_KEEPS, _NUMPY_BELOW_BYTES = 7, 1024


def foul_memory() -> None:
    """Fills the memory that numpy keeps for small arrays."""
    for size in range(1, _NUMPY_BELOW_BYTES):
        blocks = [np.full(size, FOUL_BYTE, np.uint8) for _ in range(_NUMPY_KEEPS)]
        del blocks


_LATER_S = 345.678912
"""So much later are clocks of the process, where programs run a second time.

Their ticks are as long as a short program runs, and a first run may read the same zero as a second.
"""


def move_clocks() -> None:
    """Lets `os.times` and `resource.getrusage` show later times, in their own precision."""
    times, usage = os.times, resource.getrusage

    def later_times() -> os.times_result:
        return os.times_result(round(t + _LATER_S, 2) for t in times())

    def later_usage(who: int, /) -> resource.struct_rusage:
        user_s, system_s, *others = usage(who)
        spent_s = (round(t + _LATER_S, 6) for t in (user_s, system_s))
        return resource.struct_rusage((*spent_s, *others))

    setattr(os, "times", later_times)  # noqa: B010 - not for the type checker to know
    setattr(resource, "getrusage", later_usage)  # noqa: B010
