#!/bin/sh
# Makes .venv with everything difffx needs; does nothing where that is already done. Needs Python 3.11 to 3.13.
# usage: sh scripts/setup.sh [EXTRA,...]     such as: sh scripts/setup.sh dev
set -eu
cd "$(dirname "$0")/.."
extras="${1:-}"
python=""
for name in "${PYTHON:-python3.11}" python3.12 python3.13 python3 python; do
    if command -v "$name" >/dev/null 2>&1 &&
        "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        python="$name"
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or say which: PYTHON=/path/to/python sh scripts/setup.sh" >&2
    exit 1
fi
stamp="$(cat pyproject.toml constraints.txt | cksum) $extras"
if [ -x .venv/bin/python ] && grep -qxF "$stamp" .venv/.installed 2>/dev/null; then
    exit 0
fi
if [ ! -x .venv/bin/python ] && ! "$python" -m venv .venv; then
    echo "error: $python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
fi
echo "installing into .venv (a minute or more)"
target="."
[ -z "$extras" ] || target=".[$extras]"
.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable "$target"
echo "$stamp" >>.venv/.installed
command -v "${CC:-cc}" >/dev/null 2>&1 ||
    echo "no C compiler found: effects will run in PyTorch, and the main job will take twice as long"
