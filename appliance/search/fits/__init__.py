"""From pieces to answers: the ways in which pieces make the outputs of all demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from appliance.search.fits.direct import direct_fits
from appliance.search.fits.fit import Fit
from appliance.search.fits.pairs import pair_fits
from appliance.search.fits.rules import rule_fits
from appliance.search.fits.stack import stack_fits
from appliance.search.fits.targets import Targets
from appliance.search.pieces import Group

__all__ = ["Fit", "all_fits", "quick_fits"]


def quick_fits(group: Group, outputs: bytes) -> list[Fit]:
    """The fits of a single piece."""
    return list(direct_fits(Targets.of(group, outputs)))


def all_fits(group: Group, outputs: bytes, is_late: Callable[[], bool]) -> Iterator[Fit]:
    """Every fit of one piece or more, by kind. Once it is late, those that were found stand."""
    if is_late():
        return
    targets = Targets.of(group, outputs)
    yield from direct_fits(targets)
    for fits in (pair_fits, rule_fits, stack_fits):
        yield from fits(targets, is_late)
