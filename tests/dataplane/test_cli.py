"""The dispatcher: finds commands, reports refusals in one line, imports little."""

import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("sallyport 0.")
    for words in ([], ["help"], ["--help"], ["access"], ["tunnel", "--help"], ["edge"]):
        assert main(words) == 0
        assert "usage: sallyport" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["frobnicate"], ["access", "frobnicate"], ["edge", "x"], ["tunnel", "route", "ip"]])
def test_unknown_commands_exit_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("sallyport: there is no command")


@pytest.mark.parametrize(
    "words",
    [
        ["access", "login"],
        ["access", "token"],
        ["access", "ssh-config"],
        ["access", "ssh-gen"],
        ["access", "ssh"],
        ["tunnel", "create"],
        ["tunnel", "list"],
        ["tunnel", "info"],
        ["tunnel", "delete"],
        ["tunnel", "token"],
        ["tunnel", "cleanup"],
        ["tunnel", "route", "dns"],
        ["tunnel", "ingress", "validate"],
        ["login"],
    ],
)
def test_every_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    assert f"usage: sallyport {' '.join(words)}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["ssh", "--help"], ["ssh-gen", "--help"], ["ssh-config", "--hostname", "h.example"]])
def test_commands_of_every_ssh_import_no_crypto(words: list[str]) -> None:
    """These run at each ssh: crypto, asyncio and YAML would double their start."""
    script = (
        "import sys\nfrom dataplane.cli import main\n"
        f"try:\n    main(['access', *{words!r}])\nexcept SystemExit:\n    pass\n"
        "heavy = {'cryptography', 'nacl', 'jwt', 'asyncio', 'yaml', 'capnp', 'http', 'email', 'subprocess'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={"PYTHONPATH": str(REPOSITORY), "HOME": "/nonexistent"},
    )
    assert done.stdout.endswith("HEAVY []\n")


def test_output_nobody_reads_is_no_traceback() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -P -m dataplane.cli help | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PYTHONPATH": str(REPOSITORY), "HOME": "/"},
        check=False,
    )
    assert "Traceback" not in done.stderr
