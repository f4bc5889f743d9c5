"""Answers of signing workers to the requests that wait for them, each under the id of its certificate.

A result backend would publish, store and look up each answer; here a worker leaves one message for one reader. An
answer that gets lost costs its reader a look into the database, nothing more.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import redis

from accounts.shared_redis import shared_redis

log = logging.getLogger(__name__)
Answer = dict[str, str]
_KEPT_SECONDS = 60
_SHORTEST_WAIT_SECONDS = 0.01
_KEPT_ANSWERS = 10_000


def send_answers(answers: Mapping[str, Answer]) -> None:
    server = shared_redis()
    if server is None:
        _here.put(answers)
        return
    try:
        with server.pipeline(transaction=False) as pipeline:
            for identifier, answer in answers.items():
                pipeline.rpush(_key(identifier), json.dumps(answer))
                pipeline.expire(_key(identifier), _KEPT_SECONDS)
            pipeline.execute()
    except redis.RedisError:
        log.exception("answers of a signing job could not be sent")


def await_answer(identifier: str, *, timeout: float) -> Answer | None:
    """None when nothing came within `timeout` seconds. An answer is given once."""
    server = shared_redis()
    if server is None:
        return _here.take(identifier, timeout)
    try:
        # To Redis a timeout of 0 means to wait for ever.
        found = cast("Any", server.blpop([_key(identifier)], timeout=max(timeout, _SHORTEST_WAIT_SECONDS)))
    except redis.RedisError:
        log.exception("the answer of a signing job cannot be read")
        return None
    answer = json.loads(found[1]) if found else None
    return answer if isinstance(answer, dict) else None


def _key(identifier: str) -> str:
    return f"signing-answer:{identifier}"


class _Mailbox:
    """The same within one process (the embedded worker)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._readers: dict[str, threading.Event] = {}

    def put(self, answers: Mapping[str, Answer]) -> None:
        with self._lock:
            self._answers.update(answers)
            # Of readers that were gone before their answer came.
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
            woken = [self._readers[identifier] for identifier in answers if identifier in self._readers]
        for reader in woken:
            reader.set()

    def take(self, identifier: str, timeout: float) -> Answer | None:
        with self._lock:
            if identifier in self._answers:
                return self._answers.pop(identifier)
            came = self._readers[identifier] = threading.Event()
        came.wait(timeout)
        with self._lock:
            self._readers.pop(identifier, None)
            return self._answers.pop(identifier, None)


_here = _Mailbox()
