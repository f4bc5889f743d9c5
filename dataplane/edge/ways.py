"""How many streams of each application run over this edge now, and how far away their people are.

The round trip is what the kernel measured on the public connections (tcpinfo.py). Behind a TCP load balancer it is the
way to that one.
"""

import statistics
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from dataplane.edge.livestreams import LiveStream, LiveStreams

# The newest streams of an application stand for all of them: one system call each.
MAX_MEASURED = 32
# Applications whose streams are over already, remembered until the next report.
MAX_REMEMBERED = 2000
MAX_TOLD = 2000


@dataclass(frozen=True, slots=True)
class Way:
    """`rtt_seconds`: the median of the live streams, or what the last one that was had measured."""

    application_id: str
    streams: int
    rtt_seconds: float | None


class Ways:
    def __init__(self, streams: LiveStreams) -> None:
        self._streams = streams
        self._measured: OrderedDict[str, float] = OrderedDict()
        streams.on_add(self._note)

    def current(self) -> list[Way]:
        """Applications with live streams, busiest first, then those that had some since the last report."""
        live: dict[str, list[LiveStream]] = defaultdict(list)
        for stream in self._streams:
            live[stream.allowed.application_id].append(stream)
        busiest = sorted(live, key=lambda application_id: -len(live[application_id]))
        over = [application_id for application_id in self._measured if application_id not in live]
        return [self._way(application_id, live[application_id]) for application_id in [*busiest, *over][:MAX_TOLD]]

    def told(self, ways: Iterable[Way]) -> None:
        for way in ways:
            self._measured.pop(way.application_id, None)

    def _way(self, application_id: str, streams: list[LiveStream]) -> Way:
        measured = [stream.round_trip() for stream in streams[-MAX_MEASURED:]]
        known = [seconds for seconds in measured if seconds is not None]
        rtt_seconds = statistics.median(known) if known else self._measured.get(application_id)
        return Way(application_id, len(streams), rtt_seconds)

    def _note(self, stream: LiveStream) -> None:
        """A short request may be over before the next report; its handshakes have been measured by now."""
        measured = stream.round_trip()
        if measured is None:
            return
        self._measured[stream.allowed.application_id] = measured
        self._measured.move_to_end(stream.allowed.application_id)
        while len(self._measured) > MAX_REMEMBERED:
            self._measured.popitem(last=False)
