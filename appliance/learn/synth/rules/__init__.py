"""Rules like those of ARC's training tasks, drawn at random with pairs that show them.

    >>> import numpy as np
    >>> from appliance.learn.synth.rules import show_rule
    >>> shows = show_rule(np.random.default_rng(7), num_pairs=4)
    >>> shows.name, len(shows.pairs)

Two kinds of rules: about things in a scene (`object_rules`: a kind of scene x which things x what
happens to them), and the other kinds (`kinds`: cells, lines, counts, panels, whole grids). They
know no program: many say what the DSL cannot.
"""

from __future__ import annotations

from appliance.learn.synth.rules.draw import Shows, show_rule

__all__ = ["Shows", "show_rule"]
