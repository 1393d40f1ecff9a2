"""The view of one run on a terminal: brought up to date from its journal, drawn, turned by keys."""

from __future__ import annotations

from appliance.arc.task import Solutions
from appliance.record.journal import Journal
from appliance.run.screen.draw import frame
from appliance.run.screen.follow import FEW, Changes, Follower
from appliance.run.screen.terminal import Terminal
from appliance.run.screen.view import RunView

REFRESH_S = 1.0
"""Seconds between two pictures, unless a key is pressed: clocks move by seconds."""

QUIT, NEXT, BACK = "q", " ", "b"
"""Keys. Ctrl-C is a signal and not among them."""


class Screen:
    """What a person looks at, whoever reads the journal for it."""

    def __init__(self, name: str, solutions: Solutions, *, keys: str, most: int = FEW) -> None:
        """name: of the run. keys: what may be pressed, for people. most: see `Follower`."""
        self._name, self._solutions, self._most = name, solutions, most
        self.begin_anew()
        self._terminal = Terminal()
        self._keys, self._page = keys, 0

    def begin_anew(self) -> None:
        """Forget all that was read."""
        self.view = RunView(self._solutions)
        self._follower = Follower(self.view, self._name, most=self._most)

    def open(self) -> None:
        self._terminal.open()

    @property
    def is_open(self) -> bool:
        return self._terminal.is_open

    @property
    def is_complete(self) -> bool:
        """Whether all that was found in the journal is in the view."""
        return self._follower.is_complete

    def look(self, journal: Journal) -> Changes:
        """What is new there, see `Follower`."""
        return self._follower.look(journal)

    def take(self, changes: Changes) -> None:
        self.view.fault = ""
        self._follower.take(changes)

    def is_left(self) -> bool:
        """Whether the person has asked to leave; other keys turn the pages."""
        for key in self._terminal.pressed():
            if key == QUIT:
                return True
            if key in (NEXT, BACK):
                self._page += 1 if key == NEXT else -1
        return False

    def paint(self, now_s: float) -> None:
        self._terminal.paint(
            frame(
                self.view,
                now_s,
                self._terminal.size,
                keys=self._keys,
                page=self._page,
                num_unread=self._follower.num_unread,
            )
        )

    def wait(self, seconds: float) -> None:
        """So long, or until a key is pressed."""
        self._terminal.wait(seconds)

    def close(self, now_s: float) -> None:
        """The last picture stays on the usual screen."""
        if self.is_open:
            size = self._terminal.size
            self._terminal.close()
            self._terminal.print(frame(self.view, now_s, size, keys="")[:-1])
