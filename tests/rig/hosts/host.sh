# The first process of a host: in namespaces of its own of mounts, network, processes and names.
# It ends, and all of the host with it, when its standard input does.
set -eu
exec 3<&0 </dev/null

# Another /tmp, but for what runs here: the interpreter, its packages, this checkout.
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd /run/kept
number=0
printf '%s\n' "$KEPT" | while read -r path; do
    [ -n "$path" ] || continue
    number=$((number + 1))
    mkdir "/run/kept/$number"
    mount --bind "$path" "/run/kept/$number"
done
cp "$SSHD_CONFIG" "$HOST_KEY" "$AUTHORIZED_KEYS" /run/sshd
mount -t tmpfs -o mode=1777 tmpfs "$TEMPORARY"
number=0
printf '%s\n' "$KEPT" | while read -r path; do
    [ -n "$path" ] || continue
    number=$((number + 1))
    mkdir -p "$path"
    mount --bind "/run/kept/$number" "$path"
done

hostname "$NAME"
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip address add "$ADDRESS/30" dev eth0
ip link set eth0 up

/usr/sbin/sshd -D -e -f /run/sshd/sshd_config &
cat <&3 >/dev/null
# The last process of a namespace: with it the others are killed.
exit 0
