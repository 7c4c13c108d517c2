# shellcheck shell=bash
# Starts a real API server for against-server.sh.
# shellcheck disable=SC2154,SC2034

set -euo pipefail

part_server() {
    # In the background, because a trap waits for a command in the foreground; the lab ends when this script does.
    "$lab/lab" api "$here/against-server.sh" "$work" >"$work/server" &
    wait $!
    summary=$(cat "$work/server")
}
