"""The script that makes a host trust an application's certificates, and keep trusting the right ones. Pure.

It holds nothing secret: addresses, and the edge's public certificate authority. Every file it makes is replaced in one
step, because sshd reads them at every login and a half-written one locks everybody out (security.md 6.3).
"""

from __future__ import annotations

import shlex

CA_FILE = "/etc/ssh/ca.pub"
KRL_FILE = "/etc/ssh/revoked.krl"
SSHD_FILE = "/etc/ssh/sshd_config.d/10-sallyport.conf"
FETCH_COMMAND = "/usr/local/sbin/sallyport-ssh-files"
EDGE_CA_FILE = "/etc/ssh/sallyport-edge-ca.pem"


def host_script(*, base_url: str, application: str, edge_authority: str = "") -> str:
    """A POSIX shell script for root. `base_url` is where the application's host files are; `edge_authority` the PEM of
    a private authority that signed the edge's certificate, if there is one."""
    name = " ".join(application.split())
    parts = [_HEAD.replace("@NAME@", name.replace("\\", " "))]
    parts.append(f"BASE={shlex.quote(base_url)}\n")
    if edge_authority:
        parts.append(_EDGE_AUTHORITY.replace("@PEM@", edge_authority.strip()))
    parts.append(_FETCH.replace("@CACERT@", f"--cacert {EDGE_CA_FILE} " if edge_authority else ""))
    parts += [_SSHD, _TIMER]
    return "".join(parts)


_HEAD = """\
#!/bin/sh
# Lets sshd on this host accept certificates of: @NAME@
#
#   sudo sh host-setup.sh [ADDRESS ...]
#
# ADDRESS: where connectors reach this host from, if not from the host itself. sshd slows down addresses that fail to
# log in; all your people come from the connector's, so it must be exempt or one person could lock out the others.
#
# Run it again at any time. It makes: /etc/ssh/ca.pub, /etc/ssh/revoked.krl, a file in /etc/ssh/sshd_config.d,
# /usr/local/sbin/sallyport-ssh-files and a timer that runs it every minute. To undo: remove these, reload sshd.
# Keep a session open while you run it.
set -eu
umask 022
ROOT="${ROOT:-}"
[ -n "$ROOT" ] || [ "$(id -u)" = 0 ] || { echo "run as root: sudo sh host-setup.sh" >&2; exit 1; }
for tool in curl ssh-keygen; do
  command -v "$tool" >/dev/null || { echo "$tool is needed" >&2; exit 1; }
done
mkdir -p "$ROOT/etc/ssh/sshd_config.d" "$ROOT/usr/local/sbin"
MARK="$ROOT/etc/ssh/sallyport-host"
"""

_EDGE_AUTHORITY = """\
cat > "$ROOT/etc/ssh/sallyport-edge-ca.pem" <<'END'
@PEM@
END
"""

_FETCH = """\
if [ -e "$MARK" ] && [ "$(cat "$MARK")" != "$BASE" ]; then
  echo "this host already trusts another application: $(cat "$MARK")" >&2
  echo "sshd takes one CA file. Remove $MARK first if this one shall replace it." >&2
  exit 1
fi
if [ ! -e "$MARK" ] && [ -s "$ROOT/etc/ssh/ca.pub" ]; then
  cp -p "$ROOT/etc/ssh/ca.pub" "$ROOT/etc/ssh/ca.pub.before-sallyport"
  echo "kept what was there as /etc/ssh/ca.pub.before-sallyport"
fi

# The fetcher: new files are checked, then moved into place; on any failure the old ones stay.
cat > "$ROOT/usr/local/sbin/sallyport-ssh-files" <<'END'
#!/bin/sh
set -eu
BASE="$1"
ROOT="${ROOT:-}"
DIRECTORY="$ROOT/etc/ssh"
NEW="$(mktemp -d "$DIRECTORY/.sallyport.XXXXXX")"
trap 'rm -rf "$NEW"' EXIT
# What sshd says that its configuration is: the dashboard shows whether this host trusts the authority yet.
SSHD="$(command -v sshd || echo /usr/sbin/sshd)"
SAYS=unknown
if EFFECTIVE="$("$SSHD" -T 2>/dev/null)"; then
  SAYS=ignores
  if printf '%s\\n' "$EFFECTIVE" | grep -qix 'trustedusercakeys /etc/ssh/ca.pub'; then SAYS=trusts; fi
fi
fetch() {
  curl -fsS @CACERT@--max-time 20 --max-filesize 1000000 --get --data-urlencode "host=$(hostname)" \\
    --data-urlencode "sshd=$SAYS" -o "$NEW/$1" "$BASE/$1"
}
fetch ca.pub
ssh-keygen -l -f "$NEW/ca.pub" >/dev/null
fetch revoked.krl
ssh-keygen -Q -l -f "$NEW/revoked.krl" >/dev/null
chmod 0644 "$NEW/ca.pub" "$NEW/revoked.krl"
sync "$NEW/ca.pub" "$NEW/revoked.krl" 2>/dev/null || sync
mv -f "$NEW/revoked.krl" "$DIRECTORY/revoked.krl"
mv -f "$NEW/ca.pub" "$DIRECTORY/ca.pub"
END
chmod 0755 "$ROOT/usr/local/sbin/sallyport-ssh-files"
ROOT="$ROOT" "$ROOT/usr/local/sbin/sallyport-ssh-files" "$BASE"
printf '%s\\n' "$BASE" > "$MARK"
echo "fetched ca.pub and revoked.krl"
"""

_SSHD = """\

CONFIG="$ROOT/etc/ssh/sshd_config.d/10-sallyport.conf"
cat > "$CONFIG.new" <<'END'
PubkeyAuthentication yes
TrustedUserCAKeys /etc/ssh/ca.pub
RevokedKeys /etc/ssh/revoked.krl
END
SSHD="$(command -v sshd || echo /usr/sbin/sshd)"
# Since OpenSSH 9.8; older ones would refuse the line.
if "$SSHD" -T 2>/dev/null | grep -qi '^persourcepenalties'; then
  EXEMPT="127.0.0.1,::1"
  for address in "$@"; do EXEMPT="$EXEMPT,$address"; done
  echo "PerSourcePenaltyExemptList $EXEMPT" >> "$CONFIG.new"
fi
[ ! -e "$CONFIG" ] || cp -p "$CONFIG" "$CONFIG.old"
mv -f "$CONFIG.new" "$CONFIG"
if [ -z "$ROOT" ]; then
  if ! grep -Eqi '^[[:space:]]*Include[[:space:]]+/etc/ssh/sshd_config.d/' /etc/ssh/sshd_config; then
    echo "sshd_config does not include /etc/ssh/sshd_config.d: put this line at its top:" >&2
    echo "    Include /etc/ssh/sshd_config.d/*.conf" >&2
    exit 1
  fi
  if ! "$SSHD" -t; then
    echo "sshd does not accept the configuration; it is taken back" >&2
    if [ -e "$CONFIG.old" ]; then mv -f "$CONFIG.old" "$CONFIG"; else rm -f "$CONFIG"; fi
    exit 1
  fi
  "$SSHD" -T 2>/dev/null | grep -qix 'trustedusercakeys /etc/ssh/ca.pub' \\
    || echo "another TrustedUserCAKeys line comes first: sshd uses the first one it reads" >&2
  systemctl reload ssh 2>/dev/null || systemctl reload sshd 2>/dev/null || pkill -HUP -o -x sshd
fi
rm -f "$CONFIG.old"
echo "sshd trusts certificates of this application"
# Once more, so that the dashboard knows at once.
ROOT="$ROOT" "$ROOT/usr/local/sbin/sallyport-ssh-files" "$BASE" || true
"""

_TIMER = """\

if [ -n "$ROOT" ]; then
  exit 0
elif [ -d /run/systemd/system ]; then
  cat > /etc/systemd/system/sallyport-ssh-files.service <<END
[Unit]
Description=Fetch the SSH certificate authority and revocation list
After=network-online.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/sallyport-ssh-files $BASE
END
  cat > /etc/systemd/system/sallyport-ssh-files.timer <<'END'
[Unit]
Description=Fetch the SSH certificate authority and revocation list every minute
[Timer]
OnBootSec=15s
OnUnitActiveSec=1min
RandomizedDelaySec=10s
[Install]
WantedBy=timers.target
END
  systemctl daemon-reload
  systemctl enable --now sallyport-ssh-files.timer
else
  echo "* * * * * root /usr/local/sbin/sallyport-ssh-files '$BASE'" > /etc/cron.d/sallyport-ssh-files
fi
echo "both files are fetched again every minute"
"""
