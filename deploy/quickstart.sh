#!/usr/bin/env bash
# From a bare Debian 12 to a value in an executor's hands: installs what is missing, builds, starts a development server
# with a database of its own, stores a secret for two environments and resolves it. It can be run again at any time.
#
#   deploy/quickstart.sh            leaves the server running
#   deploy/quickstart.sh --stop     stops it
#
# Everything that it makes lies in build/ (COFFER_BUILD names another folder than build/quickstart) and in
# COFFER_DEV_DIR (default: where "cofferd serve --dev" keeps its data: ~/.local/share/coffer/dev, for root
# /var/lib/coffer-dev). The server listens on COFFER_DEV_TCP (default: tcp://127.0.0.1:7480) and on a socket there.
# Root, or sudo, is needed for missing packages only.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${COFFER_BUILD:-build/quickstart}
# Root's PostgreSQL runs as another user, who cannot enter root's home.
default_dir=${XDG_DATA_HOME:-${HOME:-}/.local/share}/coffer/dev
[[ $(id -u) -ne 0 ]] || default_dir=/var/lib/coffer-dev
dir=${COFFER_DEV_DIR:-$default_dir}
tcp=${COFFER_DEV_TCP:-tcp://127.0.0.1:7480}
pid_file=$dir/cofferd.pid
log=$dir/cofferd.log

say() { printf '\n== %s\n' "$*"; }
# fail MESSAGE [LOG [MARK]]: the end of the log follows, from the last line with the mark on.
fail() {
    echo "quickstart: $1" >&2
    [[ -z ${2:-} || ! -s $2 ]] || tac "$2" | sed "/${3:-no such mark}/q" | tac | tail -n 20 >&2
    exit 1
}

# Prints the process ID of the server that this script started, if it still runs.
running() {
    local pid
    [[ -s $pid_file ]] || return 1
    pid=$(<"$pid_file")
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == cofferd ]] && echo "$pid"
}

# Whether the running server's program was built anew since it was started.
outdated() {
    [[ ! /proc/$1/exe -ef $(built cofferd) ]]
}

stop() {
    local pid
    if ! pid=$(running); then
        echo "no server runs in $dir"
        return
    fi
    kill "$pid"
    for _ in $(seq 600); do
        running >/dev/null || { rm -f "$pid_file"; echo "stopped process $pid"; return; }
        sleep 0.1
    done
    fail "the server (process $pid) does not end; the last lines of its log:" "$log"
}

# Runs a command into a log; on a terminal the log's newest line is shown meanwhile.
with_progress() {
    local log=$1
    shift
    if [[ -t 1 ]]; then
        "$@" 2>&1 | tee "$log" | while IFS= read -r line; do printf '\r\033[K%.79s' "$line"; done
        local status=${PIPESTATUS[0]}
        printf '\r\033[K'
        return "$status"
    fi
    "$@" >"$log" 2>&1
}

compile() {
    # A folder that was set up already keeps its options.
    [[ -f $build/build.ninja ]] ||
        cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF || return
    cmake --build "$build"
}

build_all() {
    local begin
    .ci/deps build
    begin=$SECONDS
    [[ -f $build/build.ninja ]] || echo "building in $build; this takes a minute or two"
    mkdir -p "$build"
    with_progress "$build/quickstart.log" compile ||
        fail "the build failed; the end of $build/quickstart.log:" "$build/quickstart.log"
    echo "built in $build, $((SECONDS - begin)) s"
}

# The one file of this name below the build.
built() {
    local found
    found=$(find "$build" -name "$1" -not -path '*/CMakeFiles/*' \( -type f -o -type l \) | head -n 1)
    [[ -n $found ]] || fail "$1 is missing below $build; see $build/quickstart.log"
    realpath -s "$found"
}

start_server() {
    local pid
    if pid=$(running) && outdated "$pid"; then
        echo "the server was built anew, so the one that runs is stopped"
        stop
    fi
    if pid=$(running); then
        echo "the server runs already"
    else
        rm -f "$dir/ready"
        echo "--- start" >>"$log"
        setsid "$(built cofferd)" serve --dev --dev-dir "$dir" --dev-tcp "$tcp" >>"$log" 2>&1 </dev/null &
        pid=$!
        echo $pid >"$pid_file"
    fi
    for _ in $(seq 600); do
        [[ -e $dir/ready ]] && { echo "process $pid listens on $tcp; its log is $log"; return; }
        kill -0 "$pid" 2>/dev/null || fail \
            "the server ended while it started; COFFER_DEV_TCP names another address, COFFER_DEV_DIR another folder:" \
            "$log" "^--- start"
        sleep 0.1
    done
    fail "the server was not ready after a minute; its log:" "$log" "^--- start"
}

# Values come from files and from standard input: what stands on a command line can be read by everybody.
store_secret() {
    local environment=$1 status=0
    head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$work/client-id"
    head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$work/client-secret"
    echo "\$ coffer secret create crowdstrike -e $environment CROWDSTRIKE_CLIENT_ID=@FILE CROWDSTRIKE_CLIENT_SECRET=-"
    "$coffer" secret create crowdstrike -e "$environment" \
        CROWDSTRIKE_CLIENT_ID=@"$work/client-id" CROWDSTRIKE_CLIENT_SECRET=- <"$work/client-secret" \
        2>"$work/message" || status=$?
    # 6: there is one already, from an earlier run.
    case $status in
        0) cat "$work/message" ;;
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
    echo "\$ executor $*"
    COFFER_TOKEN_FILE=$dir/executor.token "$work/executor" "$@"
}

case ${1:-} in
    '') ;;
    --stop) stop; exit 0 ;;
    *) sed -n '2,12p' "$0" >&2; exit 2 ;;
esac

mkdir -p build "$dir" || fail "there is no place for the server's data; COFFER_DEV_DIR names another folder"
work=$(mktemp -d "$dir/quickstart.XXXXXX")
trap 'rm -rf "$work"' EXIT

say "Packages and build"
build_all
coffer=$(built coffer)

say "A development server in $dir"
start_server
# shellcheck source=/dev/null
. "$dir/env"

say "Store the secret crowdstrike for two environments"
store_secret prod
store_secret customer-a
echo '$ coffer secret list'
"$coffer" secret list

say "An executor resolves it for both, in one request (client/libcoffer/examples/executor.c)"
build_example
run_example prod customer-a

say "A mistake is told as what failed, where, and what to do"
if run_example --wrong-key prod; then
    fail "a key that does not exist was resolved"
fi

say "Next"
cat <<TEXT
The server is running. In a shell:

  . $dir/env
  PATH=$(dirname "$coffer"):\$PATH
  coffer secret list
  coffer get crowdstrike.CROWDSTRIKE_CLIENT_ID -e prod
  coffer set crowdstrike.CROWDSTRIKE_CLIENT_SECRET -e prod      (asks without echo)

The tour goes on in README.md. Stop the server with "deploy/quickstart.sh --stop"; its data is in $dir.
TEXT
