"""What the README tells its reader exists: commands, options, make targets, files, links and the tree."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
MARKERS = ("├──", "└──")


def readme() -> str:
    """Text of the README; empty if there is none (the layout test asks for one)."""
    return README.read_text(encoding="utf-8") if README.exists() else ""


def blocks(text: str, language: str | None = None) -> list[str]:
    """Fenced blocks of a Markdown text, of one language or of any."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in found if language is None or name.strip() == language]


def commands(text: str) -> list[list[str]]:
    """Words of every command in the bash blocks, without prompts, comments and variables set before it."""
    found = []
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word and set(word) <= set(";&|"):
                    found.append(words)
                    words = []
                elif words or not re.fullmatch(r"\w+=.*", word):
                    words.append(word)
    return [words for words in found if words]


def faults_of_ziggurat(words: list[str], command: Any) -> list[str]:
    """What a command line names that the command does not have.

    Args:
        words: Arguments after the name of the program.
        command: A click command or group.
    """
    known = _options(command)
    for position, word in enumerate(words):
        if word.startswith("-") and word != "-":
            if word.partition("=")[0] not in known:
                return [f"'{command.name or 'ziggurat'}' has no option {word}"]
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return [f"'{command.name or 'ziggurat'}' has no command '{word}'"]
            return faults_of_ziggurat(words[position + 1 :], command.commands[word])
    return []


def _options(command: Any) -> set[str]:
    spelled = {"--help"}
    for parameter in command.params:
        spelled.update(parameter.opts, parameter.secondary_opts)
    return {s for s in spelled if s.startswith("-")}


def targets(makefile: str) -> set[str]:
    """Targets of a makefile that are plain words."""
    return set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))


def tree(text: str) -> list[str]:
    """Paths of the trees drawn in a Markdown text, such as `flows/cli.py`."""
    paths = []
    for block in (b for b in blocks(text) if any(m in b for m in MARKERS)):
        folders: list[str] = []
        for line in block.splitlines():
            match = re.match(r"^([ │\u00a0]*)[├└]──\s*(.+)$", line)
            if not match:
                continue
            depth = len(match.group(1)) // 4
            names = re.split(r"\s{2,}|\s+#", match.group(2).strip())[0].replace(",", " ").split()
            paths += ["/".join([*folders[:depth], n.rstrip("/")]) for n in names]
            folders[depth:] = [names[0].rstrip("/")]
    return paths


@cache
def ziggurat() -> Any:
    """The command line as click sees it."""
    from flows.cli import app

    return typer.main.get_command(app)


def title(words: list[str]) -> str:
    """Name of a test case."""
    return " ".join(words)


@pytest.mark.parametrize("words", [w for w in commands(readme()) if Path(w[0]).name == "ziggurat"], ids=title)
def test_command_of_the_readme_exists(words: list[str]) -> None:
    assert faults_of_ziggurat(words[1:], ziggurat()) == []


@pytest.mark.parametrize("words", [w for w in commands(readme()) if w[0] == "make"], ids=title)
def test_make_target_of_the_readme_exists(words: list[str]) -> None:
    wanted = {w for w in words[1:] if "=" not in w and not w.startswith("-")}
    assert wanted - targets((ROOT / "Makefile").read_text()) == set()


def test_files_that_commands_of_the_readme_name_exist() -> None:
    tops = {p.name for p in ROOT.iterdir() if p.is_dir()} - {"runs", ".venv"}
    lines = [w for w in commands(readme()) if w[:2] != ["prefect", "deployment"]]  # its FLOW/NAME is no path
    named = {w for words in lines for w in words if "/" in w and w.split("/")[0] in tops}
    assert [w for w in sorted(named) if not (ROOT / w).exists()] == []


def test_every_path_in_the_tree_of_the_readme_exists() -> None:
    assert [p for p in tree(readme()) if not list(ROOT.glob(p))] == []


def test_links_of_the_readme_to_files_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", readme())
    assert [link for link in links if not (ROOT / link).exists()] == []


TEXT = """
```bash
$ git clone somewhere && cd somewhere
OMP_NUM_THREADS=1 ziggurat run spec.yaml --set a.b=c \\
    --json  # a comment
make demo; make fly
```
```text
repository
├── flows/          the order of stages
│   ├── cli.py      the command line
│   └── nothing.py  nothing
└── pyproject.toml
```
"""


def test_commands_are_read_across_lines_prompts_and_variables() -> None:
    assert commands(TEXT) == [
        ["git", "clone", "somewhere"],
        ["cd", "somewhere"],
        ["ziggurat", "run", "spec.yaml", "--set", "a.b=c", "--json"],
        ["make", "demo"],
        ["make", "fly"],
    ]


def test_tree_is_read_with_its_folders() -> None:
    assert tree(TEXT) == ["flows", "flows/cli.py", "flows/nothing.py", "pyproject.toml"]


def test_targets_are_read_without_variables() -> None:
    assert targets("A := 1\ndemo: x\n\techo: y\n.PHONY: z\nsetup-dev:\nhelp:=3\n") == {"demo", "setup-dev"}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("run spec.yaml --set a=b", None),
        ("run spec.yaml --set=a=b", None),
        ("run --help", None),
        ("fly", "has no command 'fly'"),
        ("run spec.yaml --fast", "'run' has no option --fast"),
        ("--fast run", "has no option --fast"),
    ],
)
def test_unknown_commands_and_options_are_noticed(line: str, fault: str | None) -> None:
    app = typer.Typer()

    @app.command("run")
    def _run(spec: str, assignments: Annotated[list[str], typer.Option("--set")]) -> None:
        """Run."""

    @app.command("status")
    def _status() -> None:
        """Status."""

    found = faults_of_ziggurat(line.split(), typer.main.get_command(app))
    assert found == [] if fault is None else fault in found[0]
