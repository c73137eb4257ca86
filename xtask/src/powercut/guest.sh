# Runs in the guest of `cargo xtask powercut`, which wrote it: the control plane on the machine's disk, and a shell that is told
# on the second serial line what to do.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mkdir -p /run/data
blkid /dev/vda > /dev/null || mkfs.ext4 -q /dev/vda
mount -t ext4 /dev/vda /run/data
port=$(sed 's/.*weft.port=\([0-9]*\).*/\1/' /proc/cmdline)
NO_COLOR=1 @SERVER@ serve --listen 0.0.0.0:6443 --link 127.0.0.1:6444 --advertise 127.0.0.1 \
    --kubeconfig-server "https://127.0.0.1:$port" --data-dir /run/data/weft > /run/server.log 2>&1 &
# A serial line that is slow must not have the server wait for its own words.
tail -n +1 -F /run/server.log > /dev/ttyS0 2> /dev/null &
stty -F /dev/ttyS1 raw -echo
exec 3<> /dev/ttyS1
echo powercut-listening >&3
while read -r line <&3; do
    (eval "$line") >&3 2>&1
    echo "powercut-done $?" >&3
done
