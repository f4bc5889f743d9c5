#!/usr/bin/env bash
# Makes sure the system packages for one purpose are there: installs them when root, else lists them and stops.
set -euo pipefail

declare -A packages=([python3-venv]=ensurepip [openssh-server]=sshd [openssh-client]=ssh [rsync]=rsync
  [postgresql]=postgres [redis-server]=redis-server [chromium]=chromium
  [haproxy]=haproxy [openssl]=openssl)
case "${1:-}" in
  venv) wanted=(python3-venv) ;;
  demo) wanted=(openssh-server openssh-client rsync) ;;
  test) wanted=(openssh-server openssh-client rsync postgresql redis-server chromium) ;;
  bench) wanted=(openssh-server openssh-client postgresql redis-server haproxy openssl) ;;
  *) echo "usage: $0 venv|demo|test|bench" >&2; exit 2 ;;
esac

present() {
  case "$1" in
    ensurepip) "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null ;;
    postgres) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;;
    sshd|haproxy) [ -x "/usr/sbin/$1" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing=()
for package in "${wanted[@]}"; do
  present "${packages[$package]}" || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "These system packages are missing: ${missing[*]}" >&2
  echo "Install them and run the command again, for example: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "Installing system packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# A policy that says no: package scripts must not start servers of their own.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; made_policy=1; fi
trap '[ -z "$made_policy" ] || rm -f "$policy"' EXIT
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  exit 1
fi
