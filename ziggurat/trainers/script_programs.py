"""Whether what a command names is there, as far as that can be seen without starting it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ziggurat.errors import SpecError
from ziggurat.trainers.script_arguments import names

INTERPRETERS = ("python", "bash", "sh", "zsh", "perl", "ruby", "Rscript", "julia", "node")


def check_command(where: str, words: list[str], folder: Path | None, given: Mapping[str, str]) -> None:
    """Refuse a program that is missing or not executable, and a script that an interpreter would not find."""
    program = words[0]
    if not names([program]):
        _check_program(where, program, folder, given)
    is_script = Path(program).name.rstrip("0123456789.") in INTERPRETERS or program == "${python}"
    script = words[1] if len(words) > 1 else ""
    if not is_script or not script or script.startswith("-") or names([script]):
        return
    if folder is None and not Path(script).is_absolute():
        raise SpecError(
            f"{where}: '{script}' is looked for in trainer.working_directory, which differs from trial to "
            f"trial; write its whole path, such as {Path.cwd() / script}"
        )
    if not Path(folder or "", script).is_file():
        raise SpecError(
            f"{where}: there is no script '{script}'{f' in {folder}' if folder else ''}; correct the path, "
            "or set trainer.working_directory"
        )


def _check_program(where: str, program: str, folder: Path | None, given: Mapping[str, str]) -> None:
    if os.sep not in program:
        if shutil.which(program, path=given.get("PATH")) is None:
            raise SpecError(
                f"{where}: there is no program '{program}' here; install it, write its whole path, or "
                "${python} for the Python that Ziggurat runs under"
            )
        return
    path = Path(folder or "", program)
    if not path.is_file() and (folder is not None or path.is_absolute()):
        raise SpecError(f"{where}: there is no program '{program}'; correct the path")
    if path.is_file() and not os.access(path, os.X_OK):
        raise SpecError(
            f"{where}: '{program}' is not executable; make it so (chmod +x), or write the interpreter "
            "before it"
        )
