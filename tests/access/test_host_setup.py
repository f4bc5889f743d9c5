"""A host is set up by the script, and is seen when it fetches; nothing half-written is ever left behind."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from access.actions import host_fetches
from access.actions.authorities import rotate_authority
from access.host_setup import host_script
from access.models import Application, HostFetch
from access.tasks import sweep_expired
from tests.access.edge_client import TEAM, EdgeBrowser
from tests.access.makers import ACTOR, make_application
from tests.factories import Cast
from tests.pages_kit import login, shown

FAKE_CURL = """\
#!/bin/sh
for word; do case "$previous" in -o) output="$word" ;; esac; previous="$word"; done
name="${word##*/}"
echo "$@" >> "$FILES/asked"
[ -e "$FILES/$name" ] || exit 22
cat "$FILES/$name" > "$output"
"""
FAKE_SSHD = '#!/bin/sh\n[ "$1" = -T ] && echo "persourcepenalties crash:90"\n'


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp)


def url(application: Application, name: str, **query: str) -> str:
    text = "&".join(f"{key}={value}" for key, value in query.items())
    return f"https://{TEAM}/cdn-cgi/access/ssh/{application.aud}/{name}" + (f"?{text}" if text else "")


class Host:
    """A directory that plays a host's root, with a curl that serves from a folder."""

    def __init__(self, base: Path, application: Application) -> None:
        self.root, self.files, self.bin = base / "root", base / "files", base / "bin"
        for folder in (self.root, self.files, self.bin):
            folder.mkdir(parents=True)
        for name, text in (("curl", FAKE_CURL), ("sshd", FAKE_SSHD)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.serve(application)
        self.script = base / "host-setup.sh"
        self.script.write_bytes(EdgeBrowser().get(url(application, "host-setup.sh")).content)

    def serve(self, application: Application) -> None:
        for name in ("ca.pub", "revoked.krl"):
            (self.files / name).write_bytes(EdgeBrowser().get(url(application, name)).content)

    def run(self, *arguments: str) -> Any:
        path = f"{self.bin}:{os.environ['PATH']}"
        environment = {"PATH": path, "ROOT": str(self.root), "FILES": str(self.files)}
        return subprocess.run(
            ["sh", str(self.script), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def read(self, name: str) -> bytes:
        return (self.root / "etc/ssh" / name).read_bytes()


@pytest.fixture
def host(tmp_path: Path, application: Application) -> Host:
    return Host(tmp_path, application)


class TestScript:
    def test_it_sets_a_host_up_and_can_run_again(self, host: Host, application: Application) -> None:
        for _ in range(2):
            ended = host.run("10.0.0.5")
            assert ended.returncode == 0, ended.stderr
        assert host.read("ca.pub") == (host.files / "ca.pub").read_bytes()
        assert host.read("revoked.krl") == (host.files / "revoked.krl").read_bytes()
        lines = host.read("sshd_config.d/10-sallyport.conf").decode().splitlines()
        assert lines == [
            "PubkeyAuthentication yes",
            "TrustedUserCAKeys /etc/ssh/ca.pub",
            "RevokedKeys /etc/ssh/revoked.krl",
            "PerSourcePenaltyExemptList 127.0.0.1,::1,10.0.0.5",
        ]
        assert (host.root / "etc/ssh/ca.pub").stat().st_mode & 0o777 == 0o644
        assert "--data-urlencode host=" in (host.files / "asked").read_text()

    @pytest.mark.parametrize(
        ("name", "content"), [("ca.pub", b"not a key"), ("revoked.krl", b"SSHKRL"), ("ca.pub", None)]
    )
    def test_a_bad_file_changes_nothing(self, host: Host, name: str, content: bytes | None) -> None:
        assert host.run().returncode == 0
        before = (host.read("ca.pub"), host.read("revoked.krl"))
        if content is None:
            (host.files / name).unlink()
        else:
            (host.files / name).write_bytes(content)
        assert host.run().returncode != 0
        assert (host.read("ca.pub"), host.read("revoked.krl")) == before
        assert [path.name for path in (host.root / "etc/ssh").iterdir() if path.name.startswith(".sallyport")] == []

    @pytest.mark.parametrize(
        ("sshd", "says"),
        [
            ("echo trustedusercakeys /etc/ssh/ca.pub", "trusts"),
            ("echo trustedusercakeys none", "ignores"),
            ("exit 255", "unknown"),
        ],
    )
    def test_the_host_tells_what_its_sshd_reads(self, host: Host, sshd: str, says: str) -> None:
        (host.bin / "sshd").write_text(f"#!/bin/sh\n{sshd}\n")
        assert host.run().returncode == 0
        asked = (host.files / "asked").read_text().splitlines()
        assert f"--data-urlencode sshd={says} " in asked[-1]
        # Before the configuration was written, and once more after it.
        assert len(asked) == 4

    def test_another_applications_keys_are_not_replaced_silently(self, host: Host) -> None:
        assert host.run().returncode == 0
        (host.root / "etc/ssh/sallyport-host").write_text("https://other.example/cdn-cgi/access/ssh/x\n")
        ended = host.run()
        assert ended.returncode == 1
        assert "already trusts another application" in ended.stderr

    def test_older_sshd_gets_no_line_it_would_refuse(self, host: Host) -> None:
        (host.bin / "sshd").write_text("#!/bin/sh\nexit 0\n")
        assert host.run().returncode == 0
        assert b"Penalty" not in host.read("sshd_config.d/10-sallyport.conf")

    def test_the_edges_private_authority_comes_along(
        self, application: Application, settings: Settings, tmp_path: Path
    ) -> None:
        path = tmp_path / "edge-ca.pem"
        path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        settings.EDGE_CA_FILE = str(path)
        text = EdgeBrowser().get(url(application, "host-setup.sh")).content.decode()
        assert "AAAA" in text
        assert "--cacert /etc/ssh/sallyport-edge-ca.pem" in text

    def test_names_cannot_break_out_of_the_script(self, tmp_path: Path) -> None:
        script = host_script(base_url="https://x.test/$(touch a)`touch b`'", application="x\n touch c #\\\n touch d")
        (tmp_path / "s.sh").write_text(script)
        environment = {"PATH": os.environ["PATH"], "ROOT": str(tmp_path / "root")}
        subprocess.run(["sh", "s.sh"], cwd=tmp_path, env=environment, capture_output=True, timeout=30, check=False)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "s.sh"]


class TestFetches:
    def test_hosts_are_seen_with_what_they_have(self, cast: Cast, application: Application) -> None:
        EdgeBrowser().get(url(application, "ca.pub", host="web-1"))
        EdgeBrowser().get(url(application, "revoked.krl", host="web-1"))
        row = HostFetch.objects.get()
        assert row.host == "web-1"
        assert row.ca_sha256 == host_fetches.current_ca_digest(application)
        assert row.krl_fetched_at is not None
        alice = login(cast.alice)
        page = shown(alice, reverse("ssh_hosts", args=["widgetcorp", application.pk]))
        assert "web-1" in page and "not told" in page
        for says, words in (("trusts", "trusts them"), ("ignores", "ignores them"), ("<b>", "not told")):
            EdgeBrowser().get(url(application, "ca.pub", host="web-1", sshd=says))
            assert words in shown(alice, reverse("ssh_hosts", args=["widgetcorp", application.pk]))
        assert '<span class="badge good">newest</span>' in page
        assert "1 of 1 host has the newest keys" in _detail(alice, application)
        rotate_authority(application, actor=ACTOR)
        page = shown(alice, reverse("ssh_hosts", args=["widgetcorp", application.pk]))
        assert '<span class="badge warn">older</span>' in page
        assert "0 of 1 host has the newest keys" in _detail(alice, application)
        HostFetch.objects.update(last_seen_at=timezone.now() - timedelta(hours=2))
        assert "silent" in shown(alice, reverse("ssh_hosts", args=["widgetcorp", application.pk]))

    def test_names_are_cleaned_and_rows_bounded(
        self, application: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host_fetches, "MAX_HOSTS", 2)
        for name in ("<script>x", "b" * 500, "c", "d"):
            assert EdgeBrowser().get(url(application, "ca.pub", host=name)).status_code == 200
        assert sorted(HostFetch.objects.values_list("host", flat=True)) == ["b" * 64, "scriptx"]

    def test_a_host_that_asks_often_writes_rarely(self, application: Application) -> None:
        EdgeBrowser().get(url(application, "ca.pub", host="a"))
        first = HostFetch.objects.get().ca_fetched_at
        EdgeBrowser().get(url(application, "ca.pub", host="a"))
        assert HostFetch.objects.get().ca_fetched_at == first

    def test_old_rows_are_swept(self, application: Application) -> None:
        EdgeBrowser().get(url(application, "ca.pub", host="a"))
        HostFetch.objects.update(last_seen_at=timezone.now() - timedelta(days=31))
        sweep_expired()
        assert not HostFetch.objects.exists()

    def test_the_script_can_be_downloaded_in_the_dashboard(self, cast: Cast, application: Application) -> None:
        answer = login(cast.bob).get(reverse("ssh_host_script", args=["widgetcorp", application.pk]))
        assert answer["Content-Disposition"] == 'attachment; filename="host-setup.sh"'
        assert answer.content == EdgeBrowser().get(url(application, "host-setup.sh")).content


def _detail(client: Client, application: Application) -> str:
    return shown(client, reverse("ssh_authority_detail", args=["widgetcorp", application.pk]))
