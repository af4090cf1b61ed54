"""Threads that take turns. Only one runs at a time, and a seed decides which one continues at each step."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable


class Killed(BaseException):
    """Raised in a thread to end it, as if its process was killed."""


class _Actor:
    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self.name, self.action = name, action
        self.may_go, self.steps_left = threading.Semaphore(0), -1
        self.ended = False
        self.error: BaseException | None = None


class Baton:
    """Runs actions in threads, interleaved at their calls of :meth:`step`.

    Args:
        seed: decides the order, and how long a thread runs before the next one. The same seed and actions give the same
            order.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        # Some errors need many steps of one thread between two of another.
        self._goes_on = self._random.choice([0, 0.5, 0.9])
        self._back = threading.Semaphore(0)
        self._actors: dict[int, _Actor] = {}
        self._added: list[_Actor] = []
        self.order: list[str] = []

    def add(self, name: str, action: Callable[[], None], *, killed_after: int | None = None) -> None:
        """Adds a thread, which is killed after ``killed_after`` steps, if given."""
        actor = _Actor(name, action)
        actor.steps_left = -1 if killed_after is None else killed_after
        self._added.append(actor)

    def run(self) -> dict[str, BaseException | None]:
        """Runs all threads to their ends, and returns the exception of each."""
        threads = [threading.Thread(target=self._act, args=(actor,), daemon=True) for actor in self._added]
        for thread in threads:
            thread.start()
        chosen: _Actor | None = None
        while alive := [actor for actor in self._added if not actor.ended]:
            if chosen is None or chosen.ended or self._random.random() >= self._goes_on:
                chosen = self._random.choice(alive)
            self.order.append(chosen.name)
            chosen.may_go.release()
            assert self._back.acquire(timeout=60), f"{chosen.name} does not come back"
        for thread in threads:
            thread.join()
        return {actor.name: actor.error for actor in self._added}

    def step(self) -> None:
        """Lets another thread continue. The threads call it; in any other thread, it does nothing."""
        actor = self._actors.get(threading.get_ident())
        if actor is None:
            return
        if actor.steps_left == 0:
            raise Killed
        actor.steps_left -= 1
        self._back.release()
        actor.may_go.acquire()

    def _act(self, actor: _Actor) -> None:
        self._actors[threading.get_ident()] = actor
        actor.may_go.acquire()
        try:
            actor.action()
        except BaseException as error:
            actor.error = error
        finally:
            actor.ended = True
            del self._actors[threading.get_ident()]
            self._back.release()
