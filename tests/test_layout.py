"""The shape of the repository: folders, sizes, words that must not occur, and what the lock files pin."""

import ast
import itertools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", ".ci/run")
LOCKS = ("requirements.lock", "requirements-dev.lock")
FOLDERS = ("benchmarks", "deployments", "examples", "flows", "infra", "tasks", "tests", "ziggurat")
PACKAGES = ("ziggurat", "flows", "tasks", "deployments")
EMPTY = ("flows/__init__.py", "tasks/__init__.py", "deployments/__init__.py")
MADE = {".git", ".venv", "build", "dist", "runs", "mlruns", "mlartifacts", "lightning_logs", "__pycache__"}
MADE_ENDINGS = ("_cache", ".egg-info", ".hypothesis")
MODULE_LINES = 350
FUNCTION_LINES = 60
FILE_BYTES = 1_000_000
HEAVY = (
    "torch",
    "pytorch_lightning",
    "ax",
    "botorch",
    "mlflow",
    "sklearn",
    "matplotlib",
    "plotly",
    "scipy",
    "prefect",
)
FORBIDDEN = {
    "shell=True": "programs are started with a list of arguments",
    "os.system(": "programs are started with a list of arguments",
    "pickle.load": "loading a pickle runs whatever is in it",
    "weights_only=False": "loading a pickle runs whatever is in it",
}
FORBIDDEN_OUTSIDE_TESTS = {
    "allow_pickle=True": "loading a pickle runs whatever is in it",
    "TODO": "what is missing is an issue, not a comment",
    "FIXME": "what is missing is an issue, not a comment",
}


def files() -> Iterator[Path]:
    """Files of the repository, without what was made by running or installing."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if f not in MADE and not f.endswith(MADE_ENDINGS)]
        yield from (Path(folder) / name for name in names)


def modules(*folders: str) -> Iterator[Path]:
    """Python modules in some folders, or in the whole repository."""
    for path in files():
        if path.suffix == ".py" and (not folders or path.relative_to(ROOT).parts[0] in folders):
            yield path


def product() -> Iterator[Path]:
    """Python modules that are no tests."""
    return (p for p in modules() if p.relative_to(ROOT).parts[0] != "tests")


def name(path: Path) -> str:
    """Path as shown in a failure."""
    return path.relative_to(ROOT).as_posix()


def pins(lock: str) -> dict[str, str]:
    """Version by canonical name in a lock file; a line that pins no exact version is refused."""
    found = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)", line)
        assert match, f"{lock}: '{line}' is not NAME==VERSION"
        key = canonicalize_name(match.group(1))
        assert key not in found, f"{lock}: {key} is pinned twice"
        found[key] = match.group(2)
    return found


@pytest.mark.parametrize("path", FILES + LOCKS + FOLDERS)
def test_required_file_or_folder_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("path", EMPTY)
def test_init_of_a_package_whose_name_others_use_is_empty(path: str) -> None:
    assert (ROOT / path).read_bytes() == b""


def test_folders_of_tests_are_no_packages() -> None:
    assert [name(p) for p in (ROOT / "tests").rglob("__init__.py")] == []


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {p.parent for p in modules(*PACKAGES)}
    assert [name(f) for f in folders if not (f / "__init__.py").exists()] == []


def test_flows_and_tasks_come_from_this_repository_wherever_python_starts(tmp_path: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        f"print(*[getattr(find_spec(n), 'origin', '') for n in {PACKAGES}], sep='|')"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    origins = done.stdout.strip().split("|")
    if not origins[0]:
        pytest.skip("ziggurat is not installed in this environment (make setup)")
    assert origins == [str(ROOT / package / "__init__.py") for package in PACKAGES]


def test_reading_a_spec_imports_no_heavy_library() -> None:
    code = f"import sys, ziggurat.spec; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_only_flows_tasks_and_deployments_import_prefect() -> None:
    offenders = []
    for path in modules("ziggurat", "examples", "infra"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(n.split(".")[0] == "prefect" for n in names):
                offenders.append(f"{name(path)}:{node.lineno}")
    assert offenders == []


def test_no_file_is_large() -> None:
    assert {name(p): p.stat().st_size for p in files() if p.stat().st_size > FILE_BYTES} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [name(p) for p in product() if not ast.get_docstring(ast.parse(p.read_text()))]
    assert sorted(set(silent) - set(EMPTY)) == []


def test_no_module_is_long() -> None:
    lengths = {name(p): len(p.read_text().splitlines()) for p in product()}
    assert {k: v for k, v in lengths.items() if v > MODULE_LINES} == {}


def test_no_function_is_long() -> None:
    long = {}
    for path in product():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    long[f"{name(path)}:{node.name}"] = lines
    assert long == {}


def test_no_forbidden_word_occurs() -> None:
    found = []
    for path in files():
        if path.suffix not in {".py", ".sh", ".yaml", ".toml"} or path == Path(__file__).resolve():
            continue
        words = FORBIDDEN if name(path).startswith("tests/") else FORBIDDEN | FORBIDDEN_OUTSIDE_TESTS
        text = path.read_text()
        found += [f"{name(path)}: {word} ({why})" for word, why in words.items() if word in text]
    assert found == []


@pytest.mark.parametrize("script", [".ci/run", "infra/find-python.sh", "infra/lock.sh"])
def test_script_is_executable_and_parses(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_locks_pin_no_gpu_package() -> None:
    pinned = [*pins(LOCKS[0]), *pins(LOCKS[1])]
    assert [p for p in pinned if re.match(r"nvidia-(?!ml-py)|cuda|triton|pytorch-triton", p)] == []


def test_locks_pin_one_torch_and_a_fastapi_that_prefect_can_use() -> None:
    runtime = pins("requirements.lock")
    assert runtime["torch"] == "2.13.0"
    assert runtime["fastapi"] in SpecifierSet("<0.151")


def test_no_package_is_in_both_locks() -> None:
    assert set(pins("requirements.lock")) & set(pins("requirements-dev.lock")) == set()


def test_locks_hold_every_direct_dependency_at_an_allowed_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime, develop = pins("requirements.lock"), pins("requirements-dev.lock")
    wrong = [d for d in project["dependencies"] if not _met(Requirement(d), runtime)]
    wrong += [d for d in project["optional-dependencies"]["dev"] if not _met(Requirement(d), develop)]
    assert wrong == []


def _met(wanted: Requirement, pinned: dict[str, str]) -> bool:
    version = pinned.get(canonicalize_name(wanted.name))
    return version is not None and version in wanted.specifier


def test_services_are_published_on_loopback_only() -> None:
    services = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())["services"]
    ports = {s: v["ports"] for s, v in services.items() if "ports" in v}
    assert ports, "no service is published, so this test looks at nothing"
    assert [p for p in itertools.chain(*ports.values()) if not p.startswith("127.0.0.1:")] == []


def test_containers_hold_no_secret_and_do_not_run_as_root() -> None:
    compose = (ROOT / "infra/compose.yaml").read_text()
    secrets = re.findall(r"^\s*\w*(?:PASSWORD|SECRET|KEY)\w*:\s*(.+)$", compose, re.MULTILINE)
    assert secrets, "no secret is passed, so this test looks at nothing"
    assert [s for s in secrets if not s.strip('"').startswith("${")] == []
    users = re.findall(r"^USER (\S+)", (ROOT / "infra/Dockerfile").read_text(), re.MULTILINE)
    assert users, "the Dockerfile names no user"
    assert users[-1] not in {"root", "0"}
