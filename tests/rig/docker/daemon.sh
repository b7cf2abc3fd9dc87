#!/bin/sh
# The first process of a daemon's own PID and mount namespaces. Whatever ends it, the kernel ends
# the containers with it and takes the mounts back. Its standard input is a lifeline: the daemon is
# asked to stop when the test that opened it is gone.
#
#   daemon.sh DOCKERD-ARGUMENT...
#   FOLDER   the daemon's own             NAME    of its bridge and its control group
#   ADDRESS  of the bridge                DISK    bytes that its images may take; empty: no limit
#   HIDDEN   paths, one a line, that don't exist where the daemon runs
set -eu
exec 3<&0 </dev/null

# The daemon finds no other's containerd there, and leaves no sockets behind.
mkdir -p /run/containerd
mount -t tmpfs tmpfs /run/containerd

cd "$FOLDER"
printf '%s\n' "$HIDDEN" | while read -r path; do
    [ -z "$path" ] || mount -t tmpfs tmpfs "$path"
done
if ! [ -d "$FOLDER/data" ]; then # it was hidden too
    mkdir -p "$FOLDER"
    mount --no-canonicalize --bind . "$FOLDER"
fi
cd /
[ -z "$DISK" ] || mount -t tmpfs -o "size=$DISK" tmpfs "$FOLDER/data"

# Never --bridge=none: it deletes the docker0 of a daemon that the host may have.
ip link add "$NAME" type bridge 2>/dev/null || :
ip address replace "$ADDRESS" dev "$NAME"
ip link set "$NAME" up

dockerd "$@" &
daemon=$!
(
    cat <&3 >/dev/null
    kill -TERM "$daemon"
) &
wait "$daemon" && status=0 || status=$?

# What a killed daemon leaves behind: containers, and their keepers.
kill -KILL -1 2>/dev/null || :
ip link delete "$NAME" || :
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    left=
    for group in /sys/fs/cgroup/"$NAME"/* /sys/fs/cgroup/*/"$NAME"/* \
        /sys/fs/cgroup/"$NAME" /sys/fs/cgroup/*/"$NAME"; do
        [ ! -d "$group" ] || rmdir "$group" 2>/dev/null || left=yes
    done
    [ -n "$left" ] || break
    sleep 0.05
done
exit "$status"
