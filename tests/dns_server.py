"""A small real DNS server on loopback (UDP), so that tests ask a resolver and never the internet."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class DnsServer:
    """Answers from `records`; names it does not know are NXDOMAIN; names in `failing` SERVFAIL, in `silent` nothing."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, name="test-dns", daemon=True)
        self.clear()

    def clear(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.failing: set[str] = set()
        self.silent: set[str] = set()
        self.questions: list[tuple[str, str]] = []

    def add(self, name: str, record_type: str, *values: str) -> None:
        if record_type == "TXT":
            values = tuple(_quoted(value) for value in values)
        self.records.setdefault((name, record_type), []).extend(values)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())
        self._thread.join(timeout=5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                return
            reply = self._answer(dns.message.from_wire(data))
            if reply is not None:
                self._socket.sendto(reply.to_wire(), peer)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        record_type = dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, record_type))
        if name in self.silent:
            return None
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        if name in self.failing:
            reply.set_rcode(dns.rcode.SERVFAIL)
            return reply
        known = {kind for known_name, kind in self.records if known_name == name}
        if not known:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        for kind in (record_type, "CNAME"):
            if kind in known:
                values = self.records[name, kind]
                reply.answer.append(dns.rrset.from_text(question.name, 30, dns.rdataclass.IN, kind, *values))
                break
        return reply


def _quoted(text: str) -> str:
    """Character strings of at most 255 bytes, as a TXT record carries a longer text."""
    return " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))
