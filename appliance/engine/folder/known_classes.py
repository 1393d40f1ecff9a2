"""Which causal LMs the installed Transformers has code for, without importing it.

An import takes seconds and torch; the table is a literal in one of its source files.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_TABLE = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
_SOURCE = Path("models", "auto", "modeling_auto.py")


@lru_cache(maxsize=1)
def causal_lm_classes() -> Mapping[str, str] | None:
    """Class by model_type, such as {"qwen2": "Qwen2ForCausalLM"}.

    None where Transformers is not installed or no longer keeps the table there: nothing is known
    then, and the loading tells.
    """
    found = find_spec("transformers")
    if found is None or found.origin is None:
        return None
    try:
        text = (Path(found.origin).parent / _SOURCE).read_text(encoding="utf-8")
        # Only the literal is parsed: the whole file would take as long as all other checks.
        begin = text.index(f"{_TABLE} = OrderedDict(")
        literal = text[text.index("(", begin) : text.index("\n)\n", begin) + 2]
        return dict(ast.literal_eval(literal))
    except (OSError, ValueError, SyntaxError, TypeError):
        return None
