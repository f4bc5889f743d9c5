"""The charts of Home: which ones, and their words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from accounts.http import OrganizationRequest
from accounts.zones import viewer_zone
from tunnels.activity import Activity, Bucket, read_activity
from tunnels.charts import Chart, bar_chart

UNITS = (("hour", "24 hours"), ("day", "30 days"))


def activity_charts(request: OrganizationRequest) -> dict[str, Any]:
    """?by=hour (the last day) or ?by=day (the last thirty)."""
    unit = "day" if request.GET.get("by") == "day" else "hour"
    zone = viewer_zone(request)
    activity = read_activity(request.organization, unit=unit, zone=zone, zone_name=zone.key, now=timezone.now())
    return {
        "activity": activity,
        "units": UNITS,
        "charts": [_logins(activity), _certificates(activity), _sessions(activity), _tunnels(activity)],
        "activity_rows": [(_name(activity, bucket), bucket) for bucket in reversed(activity.buckets)],
    }


def _logins(activity: Activity) -> Chart:
    allowed, denied = activity.total("logins_allowed"), activity.total("logins_denied")
    return _chart(
        activity,
        "logins",
        "Logins",
        f"{_count(allowed, 'login', 'logins')} let in and {denied} refused {_span(activity)}.",
        [
            ("let in", [bucket.logins_allowed for bucket in activity.buckets]),
            ("refused", [bucket.logins_denied for bucket in activity.buckets]),
        ],
        [f"{bucket.logins_allowed} let in, {bucket.logins_denied} refused" for bucket in activity.buckets],
    )


def _certificates(activity: Activity) -> Chart:
    total = activity.total("certificates")
    return _chart(
        activity,
        "certificates",
        "Certificates issued",
        f"{_count(total, 'certificate', 'certificates')} issued {_span(activity)}.",
        [("issued", [bucket.certificates for bucket in activity.buckets])],
        [f"{bucket.certificates} issued" for bucket in activity.buckets],
    )


def _sessions(activity: Activity) -> Chart:
    peak = max((bucket.sessions for bucket in activity.buckets), default=0)
    most = f"At most {_count(peak, 'session', 'sessions')} at one time" if peak else "None was seen at the counts"
    return _chart(
        activity,
        "sessions",
        "Live sessions",
        f"{most} {_span(activity)}.",
        [("at most", [bucket.sessions for bucket in activity.buckets])],
        [f"at most {bucket.sessions} at one time" for bucket in activity.buckets],
    )


def _tunnels(activity: Activity) -> Chart:
    """The share of tunnels that was connected, looked at every five minutes."""
    seen, up = activity.total("tunnels_seen"), activity.total("tunnels_up")
    share = (
        f"Tunnels were connected {up / seen:.1%} of the time"
        if seen
        else "No tunnel was seen at the counts, every five minutes,"
    )
    values = [round((bucket.up or 0.0) * 100, 1) for bucket in activity.buckets]
    down = [100 - value if bucket.up is not None else 0 for bucket, value in zip(activity.buckets, values, strict=True)]
    texts = [
        f"{value:g} % connected" if bucket.up is not None else "not looked at"
        for bucket, value in zip(activity.buckets, values, strict=True)
    ]
    series = [("connected", values), ("not connected", down)]
    return _chart(
        activity, "tunnels", "Tunnel health", f"{share} {_span(activity)}.", series, texts, top=100, top_text="100%"
    )


def _chart(
    activity: Activity,
    key: str,
    title: str,
    summary: str,
    series: Sequence[tuple[str, Sequence[float]]],
    texts: Sequence[str],
    *,
    top: float | None = None,
    top_text: str = "",
) -> Chart:
    named = [f"{_name(activity, bucket)}: {text}" for bucket, text in zip(activity.buckets, texts, strict=True)]
    labels = [_label(activity, index, bucket) for index, bucket in enumerate(activity.buckets)]
    return bar_chart(key, title, summary, series=series, texts=named, labels=labels, top=top, top_text=top_text)


def _name(activity: Activity, bucket: Bucket) -> str:
    return f"{bucket.start:%d %b}" if activity.unit == "day" else f"{bucket.start:%a %H:%M}"


def _label(activity: Activity, index: int, bucket: Bucket) -> str:
    if activity.unit == "day":
        return f"{bucket.start:%d %b}" if index % 7 == 0 and index < 28 else ""
    return f"{bucket.start:%H:%M}" if bucket.start.hour % 6 == 0 else ""


def _span(activity: Activity) -> str:
    return "in the last 30 days" if activity.unit == "day" else "in the last 24 hours"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
