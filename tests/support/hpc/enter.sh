#!/bin/bash
# enter.sh ROOT BINDS COMMAND...
# Makes ROOT the root of the namespaces in which this runs (rootfs.py made them), then runs COMMAND.
# BINDS: source=target pairs, one a line.
# A plain chroot would not do: HTCondor's starter and Apptainer need a root that is a mount point,
# and devices of their own.
set -euo pipefail
root=$1 binds=$2
shift 2
mount --bind "$root" "$root"
cd "$root"
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
while read -r name major minor; do mknod -m 666 "dev/$name" c "$major" "$minor"; done <<'NODES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
fuse 10 229
NODES
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${stream%%:*}" "dev/${stream#*:}"
done
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t proc proc proc
mount --rbind /sys sys
while IFS== read -r source target; do
    [ -n "$source" ] || continue
    if [ -d "$source" ]; then
        mkdir -p ".$target"
    else
        mkdir -p ".$(dirname "$target")"
        touch ".$target"
    fi
    mount --bind "$source" ".$target"
done <<<"$binds"
pivot_root . mnt
cd /
umount -l /mnt
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec env -i PATH=$path HOME=/root LANG=C.UTF-8 TERM=dumb "$@"
