sh -c '
set -e
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]
mkdir /run/workspace
for entry in $(ls -A | grep -v "^\.weft"); do ln -s "$PWD/$entry" /run/workspace/; done
cd /run/workspace
export CARGO_MANIFEST_DIR=/run/workspace/xtask KUBECONFIG=/run/workspace/.weft-k61/kubeconfig
if ! "$0" up --nodes 1 --no-build --name k61; then
    tail -n 20 .weft-k61/log/*
    exit 1
fi
"$0" exec --name k61 node-1 agentctl status
node=$("$WEFT_KUBECTL" get node node-1 -o jsonpath="{.status.addresses[0].address}")
"$WEFT_KUBECTL" exec deploy/web -- weft-demo get http://web/ --count 20 --summary
"$0" exec --name k61 client -- weft-demo get "http://$node:30080/" --count 20 --summary
"$0" down --name k61
' @XTASK@
