"""HTTP applications and what the edge answers itself."""

import asyncio
import base64
import hashlib
import os
from typing import Any

import pytest

from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import (
    EDGE_TOKEN,
    FOREIGN_HOST,
    ORG,
    SSH_HOST,
    TEAM,
    TUNNEL_ID,
    WEB_HOST,
    Key,
    aud,
    make_token,
)

NO_RULE_HOST = "norule.widgetcorp.localhost"


def web_token(name: str = "web") -> dict[str, str]:
    return {"Cf-Access-Token": make_token(aud=[aud(name)])}


async def test_get_reaches_the_origin_with_clean_headers(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    forged = {
        "Cf-Access-Jwt-Assertion": "forged",
        "CF-ACCESS-AUTHENTICATED-USER-EMAIL": "root@evil.example",
        "Cf_Access_Jwt_Assertion": "forged",
        "Cf-Cloudflared-Proxy-Connection-Upgrade": "update-configuration",
        "cf-cloudflared-proxy-src": "x",
        "Cf-Int-Anything": "x",
        "Cf-Warp-Tag-Id": "x",
        "X-Forwarded-For": "6.6.6.6",
        "X_Forwarded_User": "root",
        "X.Forwarded.User": "root",
        "Cf.Access~Authenticated'User*Email": "root@evil.example",
        "Forwarded": "for=6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "Sallyport-Client-Ip": "6.6.6.6",
        "Cf-Access-Client-Secret": "s",
        "Cookie": f"a=1; CF_Authorization={make_token(aud=[aud('web')])}; CF_AppSession=x; b=2",
        "X-Custom": "kept",
        "Connection": "x-drop-me",
        "X-Drop-Me": "1",
    }
    response = await eyeball.request("GET", "/page?x=1", {**web_token(), **forged})
    assert response.status == 200
    seen = response.json()["headers"]
    assert seen[":authority"] == WEB_HOST
    assert seen[":path"] == "/page?x=1"
    assert seen["cf-access-jwt-assertion"] == "assertion.for.origin"
    assert seen["cf-access-authenticated-user-email"] == "alice@widgetcorp.com"
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["cookie"] == "a=1; b=2"
    assert seen["x-custom"] == "kept"
    gone = {name.lower() for name in forged} - {
        "cf-access-jwt-assertion",
        "cf-access-authenticated-user-email",
        "x-forwarded-for",
        "cookie",
        "x-custom",
    }
    assert not gone & set(seen)
    assert "cf-access-token" not in seen


async def test_a_token_of_a_key_made_a_moment_ago_is_the_control_planes_to_check(stage: Stage) -> None:
    """The snapshot may be a second behind an organization's first login: a fresh token must not mean "log in"."""
    await stage.connector()
    fresh = make_token(Key("made-just-now"), aud=[aud("web")])
    eyeball = await stage.eyeball(WEB_HOST)
    await eyeball.request("GET", "/", {"Cookie": f"CF_Authorization={fresh}"})
    assert stage.control.authorized[-1]["token"] == fresh
    forged = make_token(Key("key-1"), aud=[aud("web")])
    await eyeball.request("GET", "/", {"Cookie": f"CF_Authorization={forged}"})
    assert stage.control.authorized[-1]["token"] is None


async def test_ac61_a_service_token_named_like_a_person_is_no_person(stage: Stage) -> None:
    await stage.connector()
    allow = stage.control.decide

    def as_machine(question: dict[str, Any]) -> dict[str, Any]:
        return {**allow(question), "session_nonce": None, "identity": "ceo@widgetcorp.com"}

    stage.control.decide = as_machine
    shown = {"Cf-Access-Client-Id": "id.access", "Cf-Access-Client-Secret": "s"}
    seen = (await (await stage.eyeball(WEB_HOST)).request("GET", "/", shown)).json()["headers"]
    assert seen["cf-access-jwt-assertion"] == "assertion.for.origin"
    assert "cf-access-authenticated-user-email" not in seen


async def test_origin_cannot_set_the_edge_cookies(stage: Stage) -> None:
    await stage.connector()
    response = await (await stage.eyeball(WEB_HOST)).request("GET", "/", web_token())
    assert response.get_all("set-cookie") == ["session=1; Path=/"]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_bodies_stream_both_ways(stage: Stage, is_chunked: bool) -> None:
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    body = os.urandom(3_000_000)
    if is_chunked:
        await eyeball.send_head("POST", "/up", {**web_token(), "Transfer-Encoding": "chunked"})
        for offset in range(0, len(body), 100_000):
            chunk = body[offset : offset + 100_000]
            eyeball.writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        eyeball.writer.write(b"0\r\n\r\n")
        response = await eyeball.response()
    else:
        response = await eyeball.request("POST", "/up", web_token(), body)
    assert response.json()["sha256"] == hashlib.sha256(body).hexdigest()
    # The connection is kept and the next answer is the next request's.
    big = await eyeball.request("GET", "/big", web_token())
    assert len(big.body) == 3_000_000


async def test_keep_alive_serves_several_requests_in_order(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    for number in range(3):
        await eyeball.send_head("GET", f"/{number}", web_token())
    answers = [await eyeball.response() for _ in range(3)]
    assert [answer.json()["headers"][":path"] for answer in answers] == ["/0", "/1", "/2"]


async def test_head_and_expect_continue(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    response = await eyeball.request("HEAD", "/", web_token())
    assert (response.status, response.body) == (200, b"")
    assert int(response.get("content-length") or 0) > 0
    await eyeball.send_head("POST", "/", {**web_token(), "Expect": "100-continue", "Content-Length": "3"})
    assert (await eyeball.response()).status == 100
    eyeball.writer.write(b"abc")
    assert (await eyeball.response()).json()["length"] == 3


async def test_short_answer_cuts_the_client_off(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    with pytest.raises(asyncio.IncompleteReadError):
        await eyeball.request("GET", "/short", web_token())


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [("/refuse", 502, "origin_refused"), ("/bad-headers", 502, "bad_origin_answer")],
)
async def test_connector_failures_have_reasons(stage: Stage, path: str, status: int, reason: str) -> None:
    await stage.connector()
    response = await (await stage.eyeball(WEB_HOST)).request("GET", path, web_token())
    assert (response.status, response.reason) == (status, reason)


async def test_no_ingress_rule_is_named(stage: Stage) -> None:
    await stage.connector()
    response = await (await stage.eyeball(NO_RULE_HOST)).request("GET", "/norule", web_token("norule"))
    assert (response.status, response.reason) == (404, "no_ingress_rule")


async def test_plain_get_to_ssh_is_not_forwarded(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball(SSH_HOST)
    response = await eyeball.request("GET", "/", {"Cf-Access-Token": make_token()})
    assert (response.status, response.reason) == (400, "websocket_required")
    assert connector.requests == []


async def test_local_configuration_decides_for_locally_managed_tunnels(stage: Stage) -> None:
    version = stage.control.change_tunnel(remote=False, config=None, config_version=None)
    await stage.until(lambda: stage.edge.snapshots.current.version == version)
    connector = await stage.connector()
    eyeball = await stage.eyeball(SSH_HOST)
    unknown = await eyeball.request("GET", "/", {"Cf-Access-Token": make_token()})
    assert (unknown.status, unknown.reason) == (503, "tunnel_configuration_unknown")
    connector.report_local(
        {"ingress": [{"hostname": SSH_HOST, "service": "ssh://h:22"}, {"service": "http_status:404"}]}
    )
    await stage.until(lambda: stage.edge.tunnels.registered()[0].registration.local_config)
    known = await eyeball.request("GET", "/", {"Cf-Access-Token": make_token()})
    assert known.reason == "websocket_required"


# ---- who may pass
# --------------------------------------------------------------------------------------------------


async def test_no_token_goes_to_login(stage: Stage) -> None:
    response = await (await stage.eyeball()).request()
    assert response.status == 302
    assert (response.get("location") or "").startswith(f"https://{TEAM}:8443/cdn-cgi/access/login/")
    assert response.get_all("set-cookie") == ["CF_AppSession=s1; Path=/; Secure"]
    assert response.get("cf-access-aud") == aud("ssh")


async def test_expired_header_token_goes_to_login(stage: Stage) -> None:
    response = await (await stage.eyeball()).upgrade(headers={"Cf-Access-Token": make_token(exp=1)})
    assert response.status == 302
    assert stage.control.authorized[-1]["token"] is None


async def test_denied_by_policy(stage: Stage) -> None:
    stage.control.decide = lambda q: {
        "outcome": "deny",
        "status": 403,
        "reason": "country_not_allowed",
        "message": "Not from <there>.",
        "reference": q["ray_id"],
    }
    eyeball = await stage.eyeball()
    response = await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})
    assert (response.status, response.reason) == (403, "country_not_allowed")
    page = await eyeball.request("GET", "/", {"Accept": "text/html"})
    assert b"Not from &lt;there&gt;." in page.body
    assert stage.control.authorized[-1]["ray_id"].encode() in page.body
    style = page.body.partition(b"<style>")[2].partition(b"</style>")[0]
    allowed = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert f"'sha256-{allowed}'" in (page.get("content-security-policy") or "")
    document = (await eyeball.request("GET", "/", {"Accept": "application/json"})).json()
    assert document["reason"] == "country_not_allowed"
    assert document["reference"] == stage.control.authorized[-1]["ray_id"]


async def test_denied_browsers_get_the_control_plane_s_page_or_address(stage: Stage) -> None:
    words = {"outcome": "deny", "status": 403, "reason": "no_match", "message": "No.", "reference": "r"}
    stage.control.decide = lambda q: words | ({"page": "<p>Call 4711</p>"} if q["page_wanted"] else {})
    eyeball = await stage.eyeball()
    page = await eyeball.request("GET", "/", {"Accept": "text/html"})
    assert (page.status, page.reason, page.body) == (403, "no_match", b"<p>Call 4711</p>")
    policy = page.get("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert b"Call" not in (await eyeball.request("GET", "/", {"Accept": "*/*"})).body
    assert b"Call" not in (await eyeball.request("POST", "/", {"Accept": "text/html"})).body
    stage.control.decide = lambda q: words | {"location": "https://help.test/?reference=r"}
    sent = await eyeball.request("GET", "/", {"Accept": "text/html"})
    assert (sent.status, sent.get("location")) == (302, "https://help.test/?reference=r")
    stage.control.decide = lambda q: words | {"location": "https://help.test/\r\nset-cookie: a=b"}
    assert (await eyeball.request("GET", "/", {"Accept": "text/html"})).status == 503


async def test_control_plane_outage_denies_and_recovers(stage: Stage) -> None:
    await stage.connector()
    await stage.control.stop()
    eyeball = await stage.eyeball(WEB_HOST)
    response = await eyeball.request("GET", "/", web_token())
    assert (response.status, response.reason) == (503, "control_plane_unreachable")
    login = await eyeball.request("GET", "/cdn-cgi/access/authorized")
    assert (login.status, login.reason) == (503, "control_plane_unreachable")
    await stage.control.start()
    assert (await eyeball.request("GET", "/", web_token())).status == 200


async def test_decisions_are_remembered_only_for_the_time_given(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    await eyeball.request("GET", "/", web_token())
    await eyeball.request("GET", "/", web_token())
    assert len(stage.control.authorized) == 2
    stage.control.cache_seconds = 30
    token = web_token()
    for _ in range(3):
        assert (await eyeball.request("GET", "/", token)).status == 200
    assert len(stage.control.authorized) == 3
    # A new snapshot is a new world: nothing remembered holds.
    version = stage.control.change()
    await stage.until(lambda: stage.edge.snapshots.current.version == version)
    await eyeball.request("GET", "/", token)
    assert len(stage.control.authorized) == 4


async def test_path_tricks_do_not_change_the_application(stage: Stage) -> None:
    """ "/admin" is an application of its own: no spelling of the path may reach it under the policy of
    "/"."""
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    for path in ("/x/../admin", "/%61dmin/x", "//admin", "/.%2e/admin", "/x/..%2fadmin"):
        response = await eyeball.request("GET", path, web_token())
        assert (response.status, response.reason) == (404, "unknown_application"), path
    assert (await eyeball.request("GET", "/admin/x", web_token("admin"))).status == 200
    assert (await eyeball.request("GET", "/admin/x", web_token("web"))).status == 403


async def test_a_record_made_this_second_is_found(stage: Stage) -> None:
    """The edge is one poll behind: who is allowed waits for a question to the control plane, not for a refusal."""
    await stage.connector()
    host = "unrouted.widgetcorp.localhost"

    def add_the_record(question: dict[str, Any]) -> dict[str, Any]:
        routes = stage.control.snapshot["routes"]
        if all(route["hostname"] != host for route in routes):
            stage.control.change(routes=[*routes, {"hostname": host, "tunnel_id": TUNNEL_ID, "organization_id": ORG}])
        return stage.control.allow(question)

    stage.control.decide = add_the_record
    eyeball = await stage.eyeball(host)
    response = await eyeball.request("GET", "/", web_token("unrouted"))
    assert (response.status, response.reason) != (503, "no_route")


async def test_questions_of_one_moment_are_not_asked_twenty_times(stage: Stage) -> None:
    before = stage.control.snapshots_asked
    refresh = stage.edge.snapshots.refresh
    asked = [asyncio.run_coroutine_threadsafe(refresh(), stage.thread.loop) for _ in range(20)]
    assert all(await asyncio.gather(*map(asyncio.wrap_future, asked)))
    # One under way, one for those who came after it had begun, a few for calls that arrived late, the poll's own.
    assert stage.control.snapshots_asked - before <= 5


async def test_route_of_another_tenant_never_carries(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball(FOREIGN_HOST)
    response = await eyeball.request("GET", "/", {"Cf-Access-Client-Id": "id", "Cf-Access-Client-Secret": "s"})
    assert (response.status, response.reason) == (503, "no_route")
    assert connector.requests == []


# ---- hosts
# ---------------------------------------------------------------------------------------------------------


async def test_host_must_equal_server_name(stage: Stage) -> None:
    eyeball = await stage.eyeball(SSH_HOST)
    response = await eyeball.request("GET", "/", {"Host": WEB_HOST})
    assert (response.status, response.reason) == (421, "misdirected_request")
    assert await eyeball.is_closed()


@pytest.mark.parametrize("host", [f"{SSH_HOST}:8443", SSH_HOST.upper(), f"{SSH_HOST}."])
async def test_host_is_compared_without_port_case_and_dot(stage: Stage, host: str) -> None:
    assert (await (await stage.eyeball()).request("GET", "/", {"Host": host})).status == 302


async def test_unknown_host_gets_a_page_and_no_certificate(stage: Stage) -> None:
    stage.tls.check_hostname = False
    stage.tls.verify_mode = 0  # type: ignore[assignment]
    for name in ("nobody.example", "management.argotunnel.com"):
        response = await (await stage.eyeball(name)).request()
        assert (response.status, response.reason) == (404, "unknown_host")


# ---- control plane
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [TEAM, "localhost"])
async def test_team_domain_and_dashboard_are_proxied_whole(stage: Stage, host: str) -> None:
    eyeball = await stage.eyeball(host)
    forged = {"Sallyport-Edge-Token": "forged", "Sallyport-Client-IP": "6.6.6.6", "X-Forwarded-Host": "evil"}
    response = await eyeball.request("POST", "/some/where?x=1", {**forged, "Cookie": "c=1"}, b"body" * 1000)
    seen = response.json()
    assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/some/where?x=1", "body" * 1000)
    assert seen["headers"]["host"] == host
    assert seen["headers"]["sallyport-edge-token"] == EDGE_TOKEN
    assert seen["headers"]["sallyport-client-ip"] == "127.0.0.1"
    assert seen["headers"]["x-forwarded-proto"] == "https"
    assert seen["headers"]["cookie"] == "c=1"
    assert "x-forwarded-host" not in seen["headers"]
    # The control plane sets the edge's cookies; only origins may not.
    assert response.get("set-cookie") == "CF_Authorization=t; Path=/"


async def test_large_body_to_the_control_plane_streams(stage: Stage) -> None:
    eyeball = await stage.eyeball(TEAM)
    response = await eyeball.request("POST", "/", {}, b"x" * 300_000)
    assert len(response.json()["body"]) == 300_000
    assert (await eyeball.request("GET", "/again")).json()["target"] == "/again"


async def test_oversized_body_is_refused_before_it_is_read(stage: Stage) -> None:
    eyeball = await stage.eyeball(TEAM)
    await eyeball.send_head("POST", "/", {"Content-Length": str(1 << 40)})
    response = await eyeball.response()
    assert (response.status, response.reason) == (413, "body_too_large")


async def test_access_endpoints_of_application_hosts_are_proxied(stage: Stage) -> None:
    eyeball = await stage.eyeball()
    seen = (await eyeball.request("GET", "/cdn-cgi/access/authorized?nonce=1")).json()
    assert seen["target"] == "/cdn-cgi/access/authorized?nonce=1"
    response = await eyeball.request("HEAD", "/any/path?x", {"Cf-Access-Metadata-Request": "true"})
    assert response.get("cf-access-metadata") == "signed"
    assert stage.control.authorized == []


@pytest.mark.parametrize(
    ("host", "prefix"), [("login.access.localhost", "/transfer/"), (TEAM, "/cdn-cgi/access/transfer/")]
)
async def test_transfer_waits_for_the_login(stage: Stage, host: str, prefix: str) -> None:
    key = "A" * 43 + "="
    eyeball = await stage.eyeball(host)
    await eyeball.send_head("GET", prefix + key, {})
    await asyncio.sleep(0.2)
    stage.control.transfers[key] = {"service_public_key": "server-key", "body": "sealed"}
    response = await eyeball.response()
    assert (response.status, response.body) == (200, b"sealed")
    assert response.get("service-public-key") == "server-key"
    bad = await eyeball.request("GET", prefix + "../../etc")
    assert bad.status == 404


async def test_a_refused_login_ends_the_wait_with_its_reason(stage: Stage) -> None:
    key = "B" * 43 + "="
    refusal = {"status": "410", "reason": "no_policy_matched", "message": "Not for you.", "reference": "ref-1"}
    stage.control.transfers[key] = refusal
    eyeball = await stage.eyeball(TEAM)
    response = await eyeball.request("GET", f"/cdn-cgi/access/transfer/{key}")
    assert response.status == 410
    assert response.get("sallyport-error") == "no_policy_matched"
    assert b"Not for you.\nreason: no_policy_matched\nreference: ref-1\n" in response.body


# ---- malformed
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"CONNECT a:22 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 40_000 + b"\r\n\r\n", 431),
    ],
)
async def test_malformed_heads_are_refused_and_the_edge_lives(stage: Stage, head: bytes, status: int) -> None:
    eyeball = await stage.eyeball()
    eyeball.writer.write(head)
    response = await eyeball.response()
    assert response.status == status
    assert response.reason
    assert await eyeball.is_closed()
    assert (await (await stage.eyeball()).request()).status == 302


async def test_malformed_chunk_ends_the_request(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    await eyeball.send_head("POST", "/silent", {**web_token(), "Transfer-Encoding": "chunked"})
    eyeball.writer.write(b"5\r\nhello\r\nzz\r\n")
    response = await eyeball.response()
    assert (response.status, response.reason) == (400, "malformed_chunk")
    await stage.until(lambda: connector.resets == 1)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Sec-WebSocket-Version": "8"}, 426), ({"Content-Length": "5"}, 400)],
)
async def test_bad_upgrades(stage: Stage, headers: dict[str, str], status: int) -> None:
    await stage.connector()
    response = await (await stage.eyeball()).upgrade(headers={"Cf-Access-Token": make_token(), **headers})
    assert (response.status, response.reason) == (status, "bad_websocket_request")
