#!/bin/busybox sh
# First process of the guest: loads modules, and goes on in the root directory of the machine that started it, read-only below a
# layer of memory. Of cgroups there is version 2 alone.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
for module in $($B cat /modules); do
    $B insmod "/$module" || echo "kernels: $module is not loaded"
done
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /lower
$B mount -t tmpfs -o size=50% layer /upper
$B mkdir /upper/changes /upper/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work root /root
for dir in tmp run var/lib; do
    $B mount -t tmpfs "$dir" "/root/$dir"
done
$B mount -t proc proc /root/proc
$B mount -t sysfs sys /root/sys
$B mount -t devtmpfs dev /root/dev
$B mkdir -p /root/dev/shm /root/dev/pts
$B mount -t tmpfs shm /root/dev/shm
$B mount -t devpts pts /root/dev/pts
$B mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
$B mount -t bpf bpf /root/sys/fs/bpf
echo "kernels: Linux $($B uname -r) is up after $($B cut -d ' ' -f 1 /proc/uptime) s"
exec $B switch_root /root /bin/sh "@SCRIPT@"
