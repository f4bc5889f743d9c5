"""Doing together what arrives at the same time (accounts/gathering.py); no database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from accounts.gathering import Gathering
from demo.first_login import wait_until


class _Held:
    """Work that stops at its first group until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(items))
        if len(self.groups) == 1:
            self.began.set()
            assert self.go.wait(60)
        return [ValueError(f"{item} is refused") if item < 0 else item * 10 for item in items]


def _in_threads(gathering: Gathering[int, int], held: _Held, later: Sequence[int]) -> dict[int, object]:
    """1 first; `later` arrive while it is worked on."""
    found: dict[int, object] = {}

    def run(item: int) -> None:
        try:
            found[item] = gathering.run("key", item)
        except ValueError as error:
            found[item] = str(error)

    threads = [threading.Thread(target=run, args=(1,))]
    threads[0].start()
    assert held.began.wait(60)
    for number, item in enumerate(later, 1):
        threads.append(threading.Thread(target=run, args=(item,)))
        threads[-1].start()
        wait_until(lambda number=number: len(gathering._waiting["key"]) == number, "the call to wait")  # type: ignore[misc]
    held.go.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


def test_what_arrives_meanwhile_is_one_group_and_each_gets_its_own_outcome() -> None:
    held = _Held()
    gathering: Gathering[int, int] = Gathering(held, most=8)
    assert _in_threads(gathering, held, [2, -3, 4]) == {1: 10, 2: 20, -3: "-3 is refused", 4: 40}
    assert held.groups == [[1], [2, -3, 4]]
    assert gathering._waiting == {}, "nothing is kept for a key that is idle"


def test_a_group_has_its_bound() -> None:
    held = _Held()
    _in_threads(Gathering(held, most=2), held, [2, 3, 4])
    assert held.groups == [[1], [2, 3], [4]]


def test_another_key_waits_for_nobody() -> None:
    held = _Held()
    gathering: Gathering[int, int] = Gathering(held, most=8)
    thread = threading.Thread(target=gathering.run, args=("busy", 1))
    thread.start()
    assert held.began.wait(60)
    assert gathering.run("other", 2) == 20
    held.go.set()
    thread.join(60)


@pytest.mark.parametrize("failing", [lambda items: [][1], lambda items: [OSError("disk full")] * len(items)])
def test_a_failure_is_raised_and_the_next_call_is_served(
    failing: Callable[[Sequence[int]], Sequence[int | Exception]],
) -> None:
    works = [failing, lambda items: [0] * len(items)]
    gathering: Gathering[int, int] = Gathering(lambda items: works.pop(0)(items), most=8)
    with pytest.raises((OSError, IndexError)):
        gathering.run("key", 1)
    assert gathering.run("key", 1) == 0
