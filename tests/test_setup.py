"""What `make test` does before the tests: Chromium is there, is fetched, or why not is said."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def set_up(path: Path, **programs: str) -> str:
    """What `make chromium` says on a machine that has only these programs."""
    for name, does in programs.items():
        program = path / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o755)
    command = [str(MAKE), "-s", "-C", str(ROOT), "--no-print-directory", "chromium"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(path)})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", ["chromium", "google_chrome"])
def test_a_browser_that_is_there_is_taken(tmp_path, name):
    """Without a word, and nobody is asked to install another one."""
    assert set_up(tmp_path, **{name: "exit 1", "apt_get": f"echo >{tmp_path}/asked"}) == ""
    assert not (tmp_path / "asked").exists()


def test_a_missing_one_is_installed(tmp_path):
    """By apt-get, as root, and nothing that it only recommends."""
    asked = tmp_path / "asked"
    assert "installing" in set_up(tmp_path, id="echo 0", apt_get=f'echo "$@" >>{asked}')
    update, install = asked.read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends chromium")


@pytest.mark.parametrize(
    ("programs", "why"),
    [
        ({}, "there is no apt-get"),
        ({"apt_get": "exit 0", "id": "echo 1000"}, "only root may install it"),
        ({"apt_get": "echo no; exit 100", "id": "echo 0"}, "no network, or no such package"),
    ],
)
def test_where_it_cannot_be_had_one_line_says_why(tmp_path, programs, why):
    """The tests go on: `make` does not fail."""
    last = set_up(tmp_path, **programs).splitlines()[-1]
    assert last.startswith("no Chromium, so the browser tests are skipped: ")
    assert why in last
