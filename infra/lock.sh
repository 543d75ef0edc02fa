#!/usr/bin/env bash
# Resolves the dependencies of pyproject.toml in fresh environments and writes requirements.lock (what the product
# needs) and requirements-dev.lock (what only its developers need). Run it through `make lock`, with the oldest Python
# that is supported, so that what is pinned installs there.
# Usage: lock.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."

python="$1"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
version="$("$python" -c 'import platform; print(platform.python_version())')"

# The direct dependencies of a section of pyproject.toml, one a line.
direct() {
    "$python" - "$1" <<'PY'
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = project["dependencies"] if sys.argv[1] == "runtime" else project["optional-dependencies"][sys.argv[1]]
print(*wanted, sep="\n")
PY
}

# What is installed, without what follows from the machine: a local build of torch (+cpu), and the CUDA packages that
# pip takes by itself where torch's build asks for them. pip stays what the environment brings.
frozen() {
    "$work/venv/bin/python" -m pip freeze --all |
        grep -Ev '^(pip|triton)==|^nvidia[-_](cu|nccl|nv)|^cuda[-_]|^pytorch-triton' |
        sed -E 's/^(torch==[0-9.]+)\+.*/\1/' |
        LC_ALL=C sort -f
}

direct runtime >"$work/runtime.in"
direct dev >"$work/dev.in"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -qq --upgrade "setuptools>=77"
"$work/venv/bin/python" -m pip install -qq -r "$work/runtime.in"
frozen >"$work/runtime.lock"
"$work/venv/bin/python" -m pip install -qq -r "$work/dev.in" -c "$work/runtime.lock"
frozen >"$work/all.lock"
"$work/venv/bin/python" -m pip check

{
    echo "# What the product needs, exactly; resolved on Python $version for Linux on x86-64 by \`make lock\`."
    cat "$work/runtime.lock"
} >requirements.lock
{
    echo "# What only its developers need, on top of requirements.lock; resolved with it by \`make lock\`."
    grep -vxFf "$work/runtime.lock" "$work/all.lock"
} >requirements-dev.lock
echo "wrote requirements.lock and requirements-dev.lock"
