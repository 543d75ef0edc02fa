"""How a forked process is seen from outside: the environment and the command line that /proc shows of it.

The kernel shows the memory that a program was started with, whatever the process has become since. A process
that is to be found by a mark in its environment, or by its command, therefore writes into that memory, which
whoever started the program has made long enough. Linux only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

_ARGUMENTS, _ENVIRONMENT = 48, 50
"""Fields of /proc/PID/stat with the address where each area starts; its end is in the next one (proc(5))."""
_FIRST = 3
"""The field after the name of the program, which is in brackets and may hold anything."""


def _area(field: int) -> tuple[int, int]:
    """Address and length of an area."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[field - _FIRST]), int(fields[field - _FIRST + 1])
    return start, end - start


def show_variable(name: str, value: str) -> None:
    """Have /proc/PID/environ show another value of a variable that the program was started with.

    Raises:
        OSError: The variable is not there or has no room, or the kernel shows its old value.
    """
    start, length = _area(_ENVIRONMENT)
    block = Path("/proc/self/environ").read_bytes()
    head, new = f"{name}=".encode(), f"{name}={value}".encode()
    at = 0 if block.startswith(head) else block.find(b"\0" + head) + 1
    if len(block) != length or not block.startswith(head, at):
        raise OSError(f"{name} is not in the environment that the program was started with")
    room = block.index(b"\0", at) - at
    if len(new) > room:
        raise OSError(f"{name} has room for {room - len(head)} bytes, not for {len(value)}")
    ctypes.memmove(start + at, new.ljust(room, b"\0"), room)
    if not Path("/proc/self/environ").read_bytes().startswith(new + b"\0", at):
        raise OSError(f"the kernel does not show the new value of {name}")


def show_command(words: Sequence[str]) -> None:
    """Have /proc/PID/cmdline, and so `ps`, show another command line, cut where there is no room for it.

    Where the area does not end with a zero any more, the kernel shows one string, up to its first zero.
    """
    start, length = _area(_ARGUMENTS)
    text = " ".join(words).encode()[: length - 2]
    ctypes.memmove(start, text.ljust(length - 1, b"\0") + b" ", length)
