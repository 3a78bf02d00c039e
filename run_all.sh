#!/usr/bin/env bash
# Makes .venv once, then runs every notebook, or the tests. Needs nothing but Python 3.11 or later.
set -euo pipefail
unset CDPATH PYTHONHOME PYTHONPATH
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
venv=$root/.venv
python=$venv/bin/python
stamp=$venv/mmlib-setup.stamp
log=$root/.venv.log
hint='or name another one: MMLIB_PYTHON=/path/to/python3 ./run_all.sh'

usage() {
    cat <<'TEXT'
usage: ./run_all.sh [options]        run every notebook on the embedded data, write figures/
       ./run_all.sh setup            only make .venv and install into it
       ./run_all.sh test [pytest's]  run the tests, and the notebooks at the smoke profile;
                                     with arguments for pytest, only what they select
       ./run_all.sh --help           this text, and the options once .venv is there

The first call makes .venv: about two minutes and 2 GB (more where pip takes a CUDA build of torch).
MMLIB_PYTHON names the Python to use. pip's own settings and PIP_ variables are respected.
TEXT
}

fail() {
    printf 'run_all.sh: %s\n' "$*" >&2
    exit 1
}

# The first Python from 3.11 to 3.13 that can make an environment; else any later one.
find_python() {
    local top candidate found
    set -- python3 python3.13 python3.12 python3.11
    if [ -n "${MMLIB_PYTHON:-}" ]; then set -- "$MMLIB_PYTHON"; fi
    for top in 13 99; do
        for candidate in "$@"; do
            if "$candidate" -c "import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $top))" \
                >/dev/null 2>&1; then
                printf '%s\n' "$candidate"
                return
            fi
        done
    done
    candidate=$1
    found=$("$candidate" --version 2>&1) || fail "no Python at $candidate. Install Python 3.11 or later, $hint"
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        fail "$found lacks venv or pip. Install them (Debian and Ubuntu: the package python3-venv), $hint"
    fi
    fail "$found is too old. Install Python 3.11 or later, $hint"
}

# What the environment is made from: a change of the pins, or a moved folder, makes it anew.
fingerprint() {
    "$python" -c '
import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.argv[2].encode()).hexdigest())' \
        "$root/requirements.lock" "$root"
}

is_ready() {
    [ -x "$python" ] && [ -f "$stamp" ] && [ "$(fingerprint 2>/dev/null)" = "$(cat "$stamp")" ]
}

quietly() {
    "$@" >>"$log" 2>&1 </dev/null || {
        printf '\n' >&2
        tail -n 20 "$log" >&2
        fail "setting up failed at: $* (the whole log: $log). Mend the cause, then call it again."
    }
}

tick() {
    local start=$SECONDS
    while sleep 1; do printf '\rsetting up .venv, about two minutes: %d s ' $((SECONDS - start)) >&2; done
}

build() {
    local base=$1
    ticker=""
    : >"$log"
    printf 'setting up .venv with %s, about two minutes\n' "$("$base" --version 2>&1)" >&2
    if [ -t 2 ]; then
        tick &
        ticker=$!
        trap 'kill $ticker 2>/dev/null || true' EXIT
    fi
    quietly "$base" -m venv --clear "$venv"
    export PIP_USER=0 PIP_NO_INPUT=1
    quietly "$python" -m pip install --disable-pip-version-check -q -r "$root/requirements.lock"
    quietly "$python" -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e "$root"
    fingerprint >"$stamp"
    rm -f "$log"
    if [ -n "$ticker" ]; then
        trap - EXIT
        kill "$ticker"
        printf '\r' >&2
    fi
    printf 'setting up .venv: done in %d s                    \n' "$SECONDS" >&2
}

# The lock is let go by the system when its holder ends, however it ends.
setup() {
    if is_ready; then return; fi
    local base
    base=$(find_python)
    (
        "$base" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("waiting for another run_all.sh that is setting up .venv", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)'
        if ! is_ready; then build "$base"; fi
    ) 9>"$root/.venv.lock"
}

run_tests() {
    cd "$root"
    export OMP_NUM_THREADS=1
    unset PYTHONDONTWRITEBYTECODE # the many processes that tests start would each compile the package
    if [ $# -gt 0 ]; then exec "$python" -m pytest "$@"; fi
    local failed=0 notebooks
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # Two processes, a module's tests in one of them, the longest modules first. Tests and notebooks
    # share their runs at the smoke profile, so that each is made once.
    MMLIB_SHARED_RUNS=$scratch/runs \
        "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder || failed=1
    shopt -s nullglob
    notebooks=(notebooks/*.ipynb)
    if [ ${#notebooks[@]} -gt 0 ]; then
        # As in an empty home: no start-up files, kernels or matplotlibrc of the user's.
        mkdir "$scratch/ipython" "$scratch/jupyter"
        : >"$scratch/matplotlibrc"
        MMLIB_PROFILE=smoke MMLIB_HEADLESS=1 MMLIB_RUNS=$scratch/runs MMLIB_FIGURES=$scratch/figures \
            IPYTHONDIR=$scratch/ipython JUPYTER_DATA_DIR=$scratch/jupyter JUPYTER_PATH=$scratch/jupyter \
            JUPYTER_CONFIG_DIR=$scratch/jupyter JUPYTER_RUNTIME_DIR=$scratch/jupyter JUPYTER_PREFER_ENV_PATH=1 \
            MATPLOTLIBRC=$scratch/matplotlibrc PYTHONSTARTUP="" MPLBACKEND="" \
            "$python" -m pytest -n 2 --dist loadscope -p no:cacheprovider --nbval-lax --nbval-current-env \
            "${notebooks[@]}" || failed=1
    fi
    exit $failed
}

case "${1:-}" in
    -h | --help)
        usage
        if is_ready; then
            printf '\nOptions:\n'
            exec "$python" -m mmlib run --help
        fi
        ;;
    setup)
        [ $# -eq 1 ] || fail "setup takes no arguments, found: ${*:2}"
        setup
        ;;
    test)
        shift
        setup
        run_tests "$@"
        ;;
    *)
        setup
        exec "$python" -m mmlib run "$@"
        ;;
esac
