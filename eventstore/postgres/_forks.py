"""Forks: what a store holds of its parent's process is of no use in a child.

Objects that hold such things register here, once each, and are notified in every child. They are held weakly, because
what is given to ``os.register_at_fork`` itself is kept for ever.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import partial
from weakref import WeakSet


class Forkable(ABC):
    """Something that has to change in a child."""

    @abstractmethod
    def after_fork(self) -> None:
        """Let go of what belongs to the parent. Called in the child, where no other thread runs."""


_forkables: WeakSet[Forkable] = WeakSet()


def tell_after_forks(forkable: Forkable) -> None:
    """Call ``after_fork`` of this object in each child that is forked while it is alive."""
    _forkables.add(forkable)


def keep_for_ever(of_parent: object) -> None:
    """Never let go of something of the parent's, in a child, not even when Python ends.

    A pool that is let go ends its sessions, which are the parent's, and waits for threads that are not here.
    """
    os.register_at_fork(after_in_child=partial(id, of_parent))


def _tell_all() -> None:
    for forkable in list(_forkables):
        forkable.after_fork()


os.register_at_fork(after_in_child=_tell_all)
