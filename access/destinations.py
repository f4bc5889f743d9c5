"""Where a stream to a bastion may go: the application's allow-list, checked before a connector dials (AC-62)."""

from __future__ import annotations

from collections.abc import Sequence

from access.evaluation import Decision
from access.models import Application
from accounts.errors import InvalidInput, PermissionDenied
from dataplane.wire.destination import (
    Destination,
    DestinationError,
    DestinationRule,
    is_allowed,
    parse_destination,
    parse_rule,
)


def allowed_destinations(application: Application, decision: Decision) -> Sequence[str]:
    """The list of the policy that decided, when it has one, otherwise the application's."""
    rights = decision.terms.ssh
    if rights is None or rights.bastion_destinations is None:
        return list(application.bastion_destinations)
    return rights.bastion_destinations


def resolve_destination(wanted: str | None, allow_list: Sequence[str], *, required: bool) -> str | None:
    """The normalised "host:port" the stream goes to, or None for an application that is no bastion.

    A list of one single host and port is also the default for clients that name none. `required`: a stream that
    needs a target, so "none given" is an error at a bastion with several. Raises InvalidInput or PermissionDenied.
    """
    rules = _rules(allow_list)
    if not wanted:
        default = _only_destination(rules)
        if default is None and rules and required:
            raise InvalidInput(
                "This is a bastion: name the host to reach, as --destination host:port.", code="destination_required"
            )
        return str(default) if default is not None else None
    if not rules:
        raise PermissionDenied(
            "This application goes to one fixed place and takes no destination.", code="destination_not_allowed"
        )
    try:
        destination = parse_destination(wanted)
    except DestinationError as error:
        raise InvalidInput(f"The destination cannot be used: {error}.", code="destination_invalid") from error
    if not is_allowed(destination, rules):
        raise PermissionDenied(
            f"The destination {destination} is not one this application may reach.", code="destination_not_allowed"
        )
    return str(destination)


def _rules(allow_list: Sequence[str]) -> list[DestinationRule]:
    try:
        return [parse_rule(text) for text in allow_list]
    except DestinationError as error:
        raise PermissionDenied(
            "The application's list of destinations cannot be read, so none is allowed.", code="policy_error"
        ) from error


def _only_destination(rules: Sequence[DestinationRule]) -> Destination | None:
    """The one concrete target, when the list is exactly that."""
    if len(rules) != 1 or rules[0].first_port != rules[0].last_port:
        return None
    rule = rules[0]
    if rule.network is not None:
        single = rule.network.prefixlen == rule.network.max_prefixlen
        return Destination(str(rule.network.network_address), rule.first_port) if single else None
    if rule.host_pattern is None or "*" in rule.host_pattern:
        return None
    return Destination(rule.host_pattern, rule.first_port)
