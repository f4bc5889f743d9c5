"""How to run a connector, per system. Pure. No command holds the token: command lines are seen by every user of a
machine and kept in shell histories, so each guide has the token pasted into a file that only its reader can open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOKEN_FILE = "/etc/sallyport/tunnel-token"  # noqa: S105 - where the token goes, not the token
AUTHORITY_FILE = "/etc/sallyport/edge-ca.pem"
_PASTE = "Paste the token when the last command waits, press Enter, then Ctrl+D."


@dataclass(frozen=True)
class InstallStep:
    text: str
    command: str


@dataclass(frozen=True)
class Guide:
    key: str
    title: str
    note: str
    steps: list[InstallStep]

    def numbered(self) -> list[tuple[str, InstallStep]]:
        """With the id of each command on the page; the last one, which runs the connector, is always `run-command`."""
        last = len(self.steps) - 1
        return [("run-command" if i == last else f"command-{i + 1}", step) for i, step in enumerate(self.steps)]


def guides(edges: Sequence[str], *, has_authority_file: bool) -> list[Guide]:
    return [
        _foreground(edges, has_authority_file),
        _debian(edges, has_authority_file),
        _docker(edges, has_authority_file),
        _macos(edges, has_authority_file),
        _windows(edges, has_authority_file),
        _cloudflared(edges, has_authority_file),
    ]


def _foreground(edges: Sequence[str], authority: bool) -> Guide:
    return Guide(
        "try",
        "Try it in a terminal",
        "Runs until you close the terminal. Any system with Python 3.11 and the sallyport command.",
        [
            InstallStep(_PASTE, "umask 077 && cat > tunnel-token"),
            InstallStep("Run the connector.", f"sallyport tunnel run {_flags(edges, authority, 'edge-ca.pem')}"),
        ],
    )


def _debian(edges: Sequence[str], authority: bool) -> Guide:
    cacert = f"Environment=TUNNEL_CACERT={AUTHORITY_FILE}\n" if authority else ""
    unit = (
        "[Unit]\nDescription=Sallyport connector\nAfter=network-online.target\nWants=network-online.target\n\n"
        f"[Service]\nDynamicUser=yes\nLoadCredential=token:{TOKEN_FILE}\nStateDirectory=sallyport\n"
        f"Environment=TUNNEL_EDGE={','.join(edges)}\n{cacert}"
        "ExecStart=/opt/sallyport/bin/sallyport tunnel run --token-file ${CREDENTIALS_DIRECTORY}/token\n"
        "Restart=always\nRestartSec=2\nNoNewPrivileges=yes\nProtectSystem=strict\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    return Guide(
        "debian",
        "Debian, Ubuntu (systemd)",
        "A service that starts with the machine, under a user of its own. Debian 12 and Ubuntu 24.04 or newer.",
        [
            InstallStep(
                "Install the sallyport command from a copy of Sallyport's source.",
                "sudo apt-get install -y python3-venv\n"
                "sudo python3 -m venv /opt/sallyport && sudo /opt/sallyport/bin/pip install ./sallyport",
            ),
            InstallStep(_PASTE, _token_commands()),
            InstallStep(
                "Write the service and start it.",
                "sudo tee /etc/systemd/system/sallyport-connector.service >/dev/null <<'END'\n"
                f"{unit}END\n"
                "sudo systemctl daemon-reload && sudo systemctl enable --now sallyport-connector",
            ),
        ],
    )


def _docker(edges: Sequence[str], authority: bool) -> Guide:
    cacert = f"  -e TUNNEL_CACERT={AUTHORITY_FILE} \\\n" if authority else ""
    return Guide(
        "docker",
        "Docker",
        "The token is mounted from a file, so that it is in no image, no environment and no docker inspect.",
        [
            InstallStep("Build the image from a copy of Sallyport's source.", _BUILD_IMAGE),
            InstallStep(_PASTE, _token_commands()),
            InstallStep(
                "Run it. The volume keeps the last good configuration.",
                "docker run -d --name sallyport-connector --restart unless-stopped \\\n"
                "  --user 0:0 --cap-drop ALL --network host \\\n"
                "  -v /etc/sallyport:/etc/sallyport:ro -v sallyport-connector:/state \\\n"
                f"  -e TUNNEL_EDGE={','.join(edges)} \\\n{cacert}"
                f"  -e TUNNEL_TOKEN_FILE={TOKEN_FILE} -e TUNNEL_STATE_DIR=/state \\\n"
                "  sallyport sallyport tunnel run",
            ),
        ],
    )


_BUILD_IMAGE = "docker build -f sallyport/deploy/Dockerfile -t sallyport sallyport"


def _macos(edges: Sequence[str], authority: bool) -> Guide:
    variables = {"TUNNEL_EDGE": ",".join(edges), "TUNNEL_TOKEN_FILE": TOKEN_FILE}
    if authority:
        variables["TUNNEL_CACERT"] = AUTHORITY_FILE
    entries = "".join(f"    <key>{key}</key><string>{value}</string>\n" for key, value in variables.items())
    plist = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0"><dict>\n'
        "  <key>Label</key><string>sallyport.connector</string>\n"
        "  <key>ProgramArguments</key><array><string>/opt/sallyport/bin/sallyport</string><string>tunnel</string>"
        "<string>run</string></array>\n"
        f"  <key>EnvironmentVariables</key><dict>\n{entries}  </dict>\n"
        "  <key>RunAtLoad</key><true/><key>KeepAlive</key><true/>\n"
        "  <key>StandardErrorPath</key><string>/var/log/sallyport-connector.log</string>\n</dict></plist>\n"
    )
    file = "/Library/LaunchDaemons/sallyport.connector.plist"
    return Guide(
        "macos",
        "macOS",
        "A launch daemon. Written from launchd's documentation; this installation's makers run Linux.",
        [
            InstallStep(
                "Install the sallyport command from a copy of Sallyport's source (Python 3.11 or newer).",
                "sudo python3 -m venv /opt/sallyport && sudo /opt/sallyport/bin/pip install ./sallyport",
            ),
            InstallStep(_PASTE, _token_commands()),
            InstallStep(
                "Write the daemon and start it.",
                f"sudo tee {file} >/dev/null <<'END'\n{plist}END\nsudo launchctl bootstrap system {file}",
            ),
        ],
    )


def _windows(edges: Sequence[str], authority: bool) -> Guide:
    folder = "C:\\ProgramData\\sallyport"
    flags = _flags(edges, authority, f"{folder}\\edge-ca.pem", token_file="")
    return Guide(
        "windows",
        "Windows",
        "The sallyport connector does not run on Windows. An unmodified cloudflared does (2025.4 or newer); these "
        "commands are for PowerShell as administrator.",
        [
            InstallStep(
                "Paste the token when it asks. Only administrators and the system can read the file.",
                f"New-Item -ItemType Directory -Force {folder} | Out-Null\n"
                f'Read-Host "Tunnel token" | Set-Content -NoNewline {folder}\\tunnel-token\n'
                f"icacls {folder}\\tunnel-token /inheritance:r /grant:r SYSTEM:R Administrators:F",
            ),
            InstallStep(
                "Run the connector.",
                f"cloudflared tunnel --no-autoupdate --protocol http2 {flags}run --token-file {folder}\\tunnel-token",
            ),
        ],
    )


def _cloudflared(edges: Sequence[str], authority: bool) -> Guide:
    flags = _flags(edges, authority, AUTHORITY_FILE, token_file="")
    return Guide(
        "cloudflared",
        "cloudflared",
        "An unmodified cloudflared speaks the same protocol. Before version 2025.4 it has no --token-file: there, set "
        "TUNNEL_TOKEN in the service's environment instead.",
        [
            InstallStep(_PASTE, _token_commands()),
            InstallStep(
                "Run the connector.",
                f"sudo cloudflared tunnel --no-autoupdate --protocol http2 {flags}run --token-file {TOKEN_FILE}",
            ),
        ],
    )


def _token_commands() -> str:
    return (
        f"sudo install -d -m 0755 /etc/sallyport && sudo install -m 0600 /dev/null {TOKEN_FILE}\n"
        f"sudo tee {TOKEN_FILE} >/dev/null"
    )


def _flags(edges: Sequence[str], authority: bool, authority_file: str, token_file: str = "tunnel-token") -> str:  # noqa: S107
    parts = [f"--edge {edge}" for edge in edges]
    if authority:
        parts.append(f"--cacert {authority_file}")
    if token_file:
        parts.append(f"--token-file {token_file}")
        return " ".join(parts)
    return "".join(f"{part} " for part in parts)
