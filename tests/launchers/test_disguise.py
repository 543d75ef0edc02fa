"""What /proc shows of a process that has become something else."""

import subprocess
import sys

import pytest

from tests.real import ROOT

CODE = """
import os, sys, psutil
from ziggurat.launchers.disguise import show_command, show_variable
try:
    show_variable(sys.argv[1], sys.argv[2])
except OSError as error:
    print(error)
show_command(["a", "command", "of", "its", "own"])
me = psutil.Process()
print(me.environ().get("OTHER"), me.environ().get("ROOM"), os.environ["ROOM"], *me.cmdline())
show_command(["long"] * 1000)
assert me.cmdline()[:2] == ["long", "long"]
assert me.environ()["OTHER"] == "stays"
"""


def shown(name: str, value: str) -> list[str]:
    environment = {"PYTHONPATH": str(ROOT), "OTHER": "stays", "ROOM": "x" * 20}
    words = [sys.executable, "-c", CODE, name, value]
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_a_variable_and_the_command_line_are_shown_with_their_new_values():
    assert shown("ROOM", "a-new-value") == [f"stays a-new-value {'x' * 20} a command of its own"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ROOM", "y" * 21, "ROOM has room for 20 bytes, not for 21"),
        ("MISSING", "x", "MISSING is not in the environment that the program was started with"),
        ("OOM", "x", "OOM is not in the environment that the program was started with"),
    ],
)
def test_what_cannot_be_shown_is_said_and_changes_nothing(name, value, words):
    said, rest = shown(name, value)
    assert said == words
    assert rest == f"stays {'x' * 20} {'x' * 20} a command of its own"
