#!/usr/bin/env bash
# Prints a Python that can make the environment: 3.11 or newer, with venv and pip. Says in one line what is missing.
# A name on the PATH proves nothing (version managers put stand-ins there), so each candidate is run.
# Usage: find-python.sh [PYTHON]
set -euo pipefail

candidates=(python3.13 python3.12 python3.11 python3)
[ -z "${1:-}" ] || candidates=("$1")

without_venv=""
for python in "${candidates[@]}"; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python"
        exit 0
    fi
    without_venv="${without_venv:-$python}"
done

if [ -n "$without_venv" ]; then
    echo "make: $without_venv has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv) and run make again" >&2
elif [ -n "${1:-}" ]; then
    echo "make: PYTHON=$1 is no Python 3.11 or newer that runs; give another or leave it out" >&2
else
    echo "make: none of ${candidates[*]} is Python 3.11 or newer; install one, or name it: make PYTHON=/path/to/python3.11" >&2
fi
exit 1
