sh -c '
set -e
[ -d /run/workspace ] || mkdir /run/workspace
for entry in $(ls -A | grep -v "^\.weft"); do ln -sfn "$PWD/$entry" "/run/workspace/$entry"; done
cd /run/workspace
export CARGO_MANIFEST_DIR=/run/workspace/xtask KUBECONFIG=/run/workspace/.weft-k61e/kubeconfig
if ! "$0" up --nodes 2 --no-build --name k61e --control-arg=--encryption=wireguard; then
    tail -n 20 .weft-k61e/log/*
    exit 1
fi
for node in node-1 node-2; do
    "$WEFT_KUBECTL" run "on-$node" --image=weft.local/demo:1 --image-pull-policy=Never \
        --overrides="{\"spec\":{\"nodeName\":\"$node\"}}"
done
"$WEFT_KUBECTL" wait --for=condition=Ready pod/on-node-1 pod/on-node-2 --timeout=300s
there=$("$WEFT_KUBECTL" get pod on-node-2 -o jsonpath="{.status.podIP}")
"$WEFT_KUBECTL" exec on-node-1 -- weft-demo get "http://$there:8080/hostname" --count 20 --summary
for node in node-1 node-2; do
    "$0" exec --name k61e "$node" agentctl status | tee /run/status
    grep -q "WireGuard in the kernel, keys of generation 1" /run/status
    grep -q "generation 1, handshake" /run/status
done
"$0" down --name k61e
' @XTASK@
