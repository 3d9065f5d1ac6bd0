#!/usr/bin/env bash
# From a bare Debian 12 to a value in an executor's hands: installs what is missing, builds, starts a development server
# with a database of its own, stores a secret for two environments and resolves it. It can be run again at any time.
#
#   deploy/quickstart.sh            leaves the server running
#   deploy/quickstart.sh --stop     stops it
#
# Everything that it makes lies in build/quickstart and in COFFER_DEV_DIR (default:
# ~/.local/share/coffer-dev, for root /var/lib/coffer-dev).
# Root, or sudo, is needed for missing packages only.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/quickstart
# Root's PostgreSQL runs as another user, who cannot enter root's home.
if [[ $(id -u) -eq 0 ]]; then default_dir=/var/lib/coffer-dev; else default_dir=$HOME/.local/share/coffer-dev; fi
dir=${COFFER_DEV_DIR:-$default_dir}
pid_file=$dir/cofferd.pid
log=$dir/cofferd.log

say() { printf '\n== %s\n' "$*"; }
fail() {
    echo "quickstart: $1" >&2
    [[ -z ${2:-} || ! -s $2 ]] || tail -n 20 "$2" >&2
    exit 1
}

# Prints the process ID of the server that this script started, if it still runs.
running() {
    local pid
    [[ -s $pid_file ]] || return 1
    pid=$(<"$pid_file")
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == cofferd ]] && echo "$pid"
}

stop() {
    local pid
    if ! pid=$(running); then
        echo "quickstart: no server runs in $dir"
        return
    fi
    kill "$pid"
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || { rm -f "$pid_file"; echo "quickstart: stopped"; return; }
        sleep 0.1
    done
    fail "the server (process $pid) does not end; the last lines of its log:" "$log"
}

build_all() {
    .ci/deps build
    if ! { cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF &&
        cmake --build "$build"; } >"$build.log" 2>&1; then
        fail "the build failed; the end of $build.log:" "$build.log"
    fi
    echo "built in $build"
}

# The one file of this name below the build.
built() {
    local found
    found=$(find "$build" -name "$1" -not -path '*/CMakeFiles/*' \( -type f -o -type l \) | head -n 1)
    [[ -n $found ]] || fail "$1 is missing below $build; see $build.log"
    realpath -s "$found"
}

start_server() {
    local pid
    if pid=$(running); then
        echo "the server runs already, as process $pid"
    else
        rm -f "$dir/ready"
        setsid "$(built cofferd)" serve --dev --dev-dir "$dir" >>"$log" 2>&1 </dev/null &
        pid=$!
        echo $pid >"$pid_file"
    fi
    for _ in $(seq 600); do
        [[ -e $dir/ready ]] && { echo "the server runs as process $pid, its log is $log"; return; }
        kill -0 "$pid" 2>/dev/null || fail "the server ended while it started; the last lines of its log:" "$log"
        sleep 0.1
    done
    fail "the server was not ready after a minute; the last lines of its log:" "$log"
}

# Values come from files and from standard input: what stands on a command line can be read by everybody.
store_secret() {
    local environment=$1 status=0
    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$work/client-id"
    head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$work/client-secret"
    "$coffer" secret create crowdstrike -e "$environment" \
        CROWDSTRIKE_CLIENT_ID=@"$work/client-id" CROWDSTRIKE_CLIENT_SECRET=- <"$work/client-secret" \
        2>"$work/message" || status=$?
    # 6: there is one already, from an earlier run.
    case $status in
        0) ;;
        6) echo "the environment $environment has the secret already" ;;
        *) fail "storing the secret for $environment failed:" "$work/message" ;;
    esac
}

build_example() {
    local library
    library=$(dirname "$(built libcoffer.so)")
    cc -std=c99 -Wall -Wextra -I client/libcoffer/include -I "$build/client/libcoffer/include" \
        client/libcoffer/examples/executor.c \
        -L "$library" -Wl,-rpath,"$library" -lcoffer -o "$work/executor"
    echo "compiled client/libcoffer/examples/executor.c against $library/libcoffer.so"
}

# The executor has a token that may resolve and nothing else.
run_example() {
    COFFER_TOKEN_FILE=$dir/executor.token "$work/executor" "$@"
}

case ${1:-} in
    '') ;;
    --stop) stop; exit 0 ;;
    *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac

mkdir -p build "$dir"
work=$(mktemp -d "$dir/quickstart.XXXXXX")
trap 'rm -rf "$work"' EXIT

say "Packages and build"
build_all
coffer=$(built coffer)

say "A development server in $dir"
start_server
set -a
# shellcheck source=/dev/null
. "$dir/env"
set +a

say "Store the secret crowdstrike for two environments"
store_secret prod
store_secret customer-a
"$coffer" secret list

say "An executor resolves it (client/libcoffer/examples/executor.c)"
build_example
run_example prod customer-a

say "A mistake is told as what failed, where, and what to do"
if run_example --wrong-key prod; then
    fail "a key that does not exist was resolved"
fi

say "Next"
cat <<TEXT
The server is running. In a shell:

  set -a; . $dir/env; set +a
  PATH=$(dirname "$coffer"):\$PATH
  coffer secret list
  coffer get crowdstrike.CROWDSTRIKE_CLIENT_ID -e prod
  coffer set crowdstrike.CROWDSTRIKE_CLIENT_SECRET -e prod      (asks without echo)

Stop it with: deploy/quickstart.sh --stop
TEXT
