"""An SSH user's laptop: a home directory, the `sallyport` client, stock ssh, and a scripted browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.installation import ROOT, Installation
from demo.sshd import Sshd


@dataclass(frozen=True)
class Person:
    """`name` is the user name at the demo identity provider."""

    name: str
    home: Path
    installation: Installation

    @classmethod
    def at(cls, name: str, base: Path, installation: Installation) -> Person:
        home = base / name
        (home / ".ssh").mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(name, home, installation)

    @property
    def environment(self) -> dict[str, str]:
        facts = self.installation.facts
        connect = f"--edge {facts['edge_address']} --cacert {facts['edge_ca']}"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "BROWSER": f"{sys.executable} -m demo.browser --person {self.name} {connect}",
            "DEMO_BROWSER_LOG": str(self.home / "browser.json"),
            "SALLYPORT_EDGE": facts["edge_address"],
            "SALLYPORT_CACERT": facts["edge_ca"],
        }

    def sallyport(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dataplane.cli", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.home
        )

    def configure(self, hostname: str) -> None:
        """What the tutorial says: paste the lines of ssh-config into ~/.ssh/config."""
        facts = self.installation.facts
        done = self.sallyport(
            "access", "ssh-config", "--hostname", hostname, "--short-lived-cert",
            "--edge", facts["edge_address"], "--cacert", facts["edge_ca"],
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"ssh-config failed: {done.stderr}")
        lines = "\nHost *\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
        (self.home / ".ssh" / "config").write_text(
            f"{done.stdout}\nHost *\n  UserKnownHostsFile {self.home}/.ssh/known_hosts{lines.replace('Host *', '')}",
            encoding="utf-8",
        )

    def ssh_command(self, *arguments: str, program: str = "ssh") -> list[str]:
        # OpenSSH finds ~ by the account, not by HOME, so the file is named.
        return [program, "-F", str(self.home / ".ssh" / "config"), *arguments]

    def ssh(self, *arguments: str, program: str = "ssh", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        command = self.ssh_command(*arguments, program=program)
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def ssh_directly(self, hostname: str, server: Sshd) -> subprocess.CompletedProcess[str]:
        """Around the edge, straight to sshd, with the newest certificate: what sshd alone makes of it."""
        certificate = self.certificate(hostname)
        key = certificate.with_name(certificate.name.removesuffix("-cert.pub"))
        command = [
            "ssh", "-F", "none", "-p", str(server.port), "-i", str(key), "-o", f"CertificateFile={certificate}",
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"{server.account}@127.0.0.1", "echo inside",
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    def browser_saw(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads((self.home / "browser.json").read_text(encoding="utf-8"))
        return seen

    def certificate(self, hostname: str) -> Path:
        """The newest certificate; pairs take turns in two slots."""
        folder = self.home / ".sallyport"
        return max(folder.glob(f"{hostname}-cf_key*-cert.pub"), key=lambda path: path.stat().st_mtime)
