"""YAML that people write by hand: settings, recipes, `--set KEY=VALUE`. Read with limits.

A few kilobytes of YAML can stand for gigabytes (anchors that name anchors), nest without end, or
contain themselves. What is read here is small, flat and plain, whatever the file: numbers, texts,
true, false, null, lists and mappings. Dates and the like stay text.
"""

from __future__ import annotations

import os
import re
import select
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any, ClassVar

import yaml

from appliance.errors import UsageError, first_line, shorten

MAX_BYTES = 100_000
"""Ten times our longest recipe; PyYAML takes half a second for this."""

MAX_DEPTH = 20
"""Of lists and mappings in each other; settings need 2, recipes 4."""

MAX_ALIASES = 20
"""So many stand for 2,000 values at most, however they name each other."""

FILE_WAIT_S = 1.0
"""A pipe, such as `--config <(...)` makes, must have begun to send by then."""

_TAG = "tag:yaml.org,2002:"


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).lower()
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _Loader(yaml.SafeLoader):
    """Plain values only, and no key twice."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        _TAG + "null": yaml.SafeLoader.construct_yaml_null,
        _TAG + "bool": yaml.SafeLoader.construct_yaml_bool,
        _TAG + "int": _whole,
        _TAG + "float": _number,
        _TAG + "str": yaml.SafeLoader.construct_yaml_str,
        _TAG + "seq": yaml.SafeLoader.construct_yaml_seq,
        _TAG + "map": yaml.SafeLoader.construct_yaml_map,
        None: yaml.SafeLoader.construct_undefined,  # every other tag: an error
    }
    yaml_implicit_resolvers = {}  # noqa: RUF012 - filled below, not by the base class

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            twice = next((key for key, count in keys.items() if count > 1), None)
            if twice is not None:
                problem = f"the key {shorten(twice)!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep=deep)


# As YAML 1.2 has numbers. In 1.1 `11:30` is one (690), `010` is 8, and `1e-3` is a text.
for _name, _form, _first in (
    ("bool", r"(?i:yes|no|true|false|on|off)", "yYnNtTfFoO"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]{1,100}|0x[0-9a-fA-F]{1,50}|0o[0-7]{1,50}", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?i:inf)|\.(?i:nan)", "-+."),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"({_form})\\Z"), list(_first))


def parse_yaml(text: str, *, place: str) -> Any:
    """The value of a YAML text. place: where it stands, for messages.

    Raises UsageError for text that is no YAML or beyond the limits.
    """
    try:
        _check_limits(text)
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as fault:
        raise _refused(place, _in_one_line(fault)) from None
    except (LookupError, TypeError, AttributeError) as fault:  # of PyYAML, for `!!bool x`
        raise _refused(place, f"a value that its tag does not fit: {first_line(fault)}") from None


class _Dumper(yaml.SafeDumper):
    """Quotes a text that the loader above would take for a number."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def analyze_scalar(self, scalar: str) -> yaml.emitter.ScalarAnalysis:
        """A text with a line end of another kind is escaped, or it would be read as a blank."""
        found = super().analyze_scalar(scalar)
        if _OTHER_LINE_ENDS.intersection(scalar):
            found.allow_single_quoted = found.allow_block = False
            found.allow_flow_plain = found.allow_block_plain = False
        return found


_OTHER_LINE_ENDS = frozenset("\r\x85\u2028\u2029")


def to_yaml(value: Any) -> str:
    """The YAML text of plain values, from which `parse_yaml` makes the same ones."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path, *, kind: str) -> Any:
    """The value in a file. kind: what it is, in the words of the message ("settings file").

    Raises UsageError when it cannot be read, is no YAML, or is beyond the limits.
    """
    place = f"{kind} {path}"
    try:
        return parse_yaml(_read(path).decode("utf-8-sig"), place=place)
    except OSError as fault:
        raise _refused(place, fault.strerror or str(fault)) from None
    except UnicodeDecodeError as fault:
        raise _refused(place, f"not UTF-8: {fault.reason} at byte {fault.start}") from None


def _read(path: Path) -> bytes:
    """Up to one byte more than MAX_BYTES, from a file, a pipe or a device, without waiting long."""
    # Without O_NONBLOCK, to open a pipe that nobody writes to takes for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    data = b""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    try:
        while len(data) <= MAX_BYTES:
            if not poller.poll(1000 * FILE_WAIT_S):
                raise OSError(f"nothing came from it for {FILE_WAIT_S:.0f} s")
            part = os.read(descriptor, MAX_BYTES + 1 - len(data))
            if not part:
                break
            data += part
    finally:
        os.close(descriptor)
    return data


def _check_limits(text: str) -> None:
    """Raises ValueError, before any value is made of the text."""
    if len(text) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} characters")

    within: list[str | None] = []  # the anchors of the lists and mappings that are open
    num_aliases = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            within.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            within.pop()
        elif isinstance(event, yaml.AliasEvent):
            num_aliases += 1
            if event.anchor in within:
                raise ValueError(f"*{shorten(str(event.anchor))} contains itself")

        if len(within) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} lists or mappings in each other")
        if num_aliases > MAX_ALIASES:
            raise ValueError(f"more than {MAX_ALIASES} aliases (*name)")


def _refused(place: str, why: str) -> UsageError:
    return UsageError(
        f"{place}: {why}",
        expected="a few kilobytes of plain YAML: keys, numbers and texts",
        remedy="correct it",
    )


def _in_one_line(fault: Exception) -> str:
    """What is wrong, and where."""
    if isinstance(fault, yaml.MarkedYAMLError) and fault.problem:
        mark = fault.problem_mark or fault.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return f"not valid YAML: {fault.problem}{where}"
    return first_line(fault)
