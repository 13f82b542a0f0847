#!/bin/sh
# Makes .venv when it is missing or stale, and nothing otherwise. Usage: tools/venv.sh run|dev
# Stale: another Python, another place, other pins, or a broken interpreter. Packages are byte-compiled at once:
# the lab starts two more Pythons, and without bytecode it is ready in 0.7 s instead of 0.4.
set -eu
kind=$1
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
python=${PYTHON:-python3}
lock=requirements.lock
[ "$kind" = dev ] && lock=requirements-dev.lock

if ! version=$("$python" -c 'import sys; print(sys.version); sys.exit(sys.version_info < (3, 11))' 2>/dev/null); then
    echo "wiretalk needs Python 3.11 or newer; '$python' is ${version:-not there}. Say which: make PYTHON=python3.12 …" >&2
    exit 2
fi
want=$({ echo "$version $here"; cat pyproject.toml requirements.lock requirements-dev.lock; } | cksum)

fresh() { # is the stamp of kind $1 true?
    [ -x .venv/bin/python ] && [ "$(cat ".venv/$1.stamp" 2>/dev/null)" = "$want" ] && .venv/bin/python -c '' 2>/dev/null
}

if ! fresh "$kind" && ! { [ "$kind" = run ] && fresh dev; }; then
    if ! { [ -x .venv/bin/python ] && { fresh run || fresh dev; }; }; then
        echo "Setting up .venv (once; about a minute) …" >&2
        rm -rf .venv
        if ! "$python" -m venv .venv; then
            echo "Python's venv module is missing: on Debian and Ubuntu, sudo apt-get install python3-venv" >&2
            exit 2
        fi
    fi
    rm -f .venv/run.stamp .venv/dev.stamp
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
    # Third-party sources may hold templates that are no Python of this version: their complaint is not ours.
    .venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
    echo "$want" >".venv/$kind.stamp"
fi
.venv/bin/python -m compileall -q capture lab tui samples
