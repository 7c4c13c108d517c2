# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# Of two runs that would change the same cluster only one goes on. Sourced.

lock=''

# Makes this run the only one of this user that changes the cluster $context, until it ends. A folder is the lock, since
# macOS has no flock: one process alone can make it.
lock_cluster() {
    local folder owner tries=0
    find_kept_folder
    folder=$kept/.lock
    mkdir -p "$kept" || fail "the folder $kept cannot be made; nothing was changed"
    until mkdir "$folder" 2>/dev/null; do
        owner=$(lock_owner "$folder")
        if [ -n "$owner" ] && is_running "$owner"; then
            refuse_second_run "$owner"
        fi
        tries=$((tries + 1))
        # Without a number it is perhaps being made just now.
        if { [ -n "$owner" ] || [ "$tries" -gt 2 ]; } && take_over_lock "$folder" "$owner"; then
            lock=$folder
            return
        fi
        [ "$tries" -lt 5 ] || fail "the lock $folder can neither be made nor taken over; nothing was changed" \
            "Should no other run of setup_cluster.sh be going on: rm -r $folder"
        sleep 1
    done
    printf '%s\n' "$$" >"$folder/pid" || fail "the folder $folder cannot be written; nothing was changed"
    # Another run may have waited for this number in vain, and taken the lock over.
    owner=$(lock_owner "$folder")
    [ "$owner" = "$$" ] || refuse_second_run "$owner"
    lock=$folder
}

refuse_second_run() {
    fail "the process $1 is another run of setup_cluster.sh and changes the cluster $context; nothing was changed" \
        "Wait until it has ended, and run again: $again" \
        "Should process $1 be something else: rm -r $kept/.lock"
}

# Prints the process that has the lock $1: the one that made it or, where runs were killed, the last that took it over.
# The link after-A points to the process that took over from A.
lock_owner() {
    local owner='' next step
    [ -L "$1/after-" ] || owner=$(cat "$1/pid" 2>/dev/null) || owner=
    # Bounded, because numbers of processes come back, and the links might lead in a circle.
    for step in 1 2 3 4 5 6 7 8 9; do
        next=$(readlink "$1/after-$owner" 2>/dev/null) || break
        owner=$next
    done
    printf '%s' "$owner"
}

# Takes over what the killed run of process $2 left behind. Of several processes that want it, one makes the link; it
# says at once whose it is, so that a run killed at any moment is taken over from as well.
take_over_lock() {
    ln -s "$$" "$1/after-$2" 2>/dev/null || return 1
    # Meanwhile the lock may have been given back and made by another run, or its maker may have written its number.
    if [ "$(lock_owner "$1")" != "$$" ] || { [ -z "$2" ] && [ -s "$1/pid" ]; }; then
        rm -f "$1/after-$2"
        return 1
    fi
    note "an earlier run${2:+, process $2,} did not come to its end"
}

# Gives the lock back in one step.
unlock_cluster() {
    mv "$lock" "$lock.$$" && rm -rf "$lock.$$"
    lock=
}
