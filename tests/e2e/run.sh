#!/usr/bin/env bash
# The chart on the cluster that kubectl points at: installed beside a real NATS, tried, restarted,
# scaled, upgraded and rolled back while 200 clients listen and somebody publishes, and taken away
# again.
#
#   IMAGE=tidegate.local/tidegate:1 NATS_IMAGE=nats:2.15-alpine NODE_IMAGE=node:24-alpine make e2e
#
# Nodes must have the images, or get them from a registry. NAMESPACE (tidegate-e2e) is made, and deleted
# at the end: KEEP=1 leaves it. MAX_CONNECTIONS (10000) must be below what the container runtime lets a
# process open, and 256 more. DRAIN=1 also empties a node of the cluster, and gives it back. POWER_CUT
# may name a command that cuts a node's power, and POWER_BACK one that gives it back: both are given
# its name. CLIENTS (200) and RATE (100 a second) are for smaller machines.
set -euo pipefail
cd "$(dirname "$0")/../.."

NAMESPACE=${NAMESPACE:-tidegate-e2e}
NATS_IMAGE=${NATS_IMAGE:-nats:2.15-alpine}
NODE_IMAGE=${NODE_IMAGE:-node:24-alpine}
MAX_CONNECTIONS=${MAX_CONNECTIONS:-10000}
CLIENTS=${CLIENTS:-200}
RATE=${RATE:-100}
PATH="$PWD/target/tools/python/bin:$PATH"
started=$SECONDS

missing() {
  echo "e2e: $*" >&2
  exit 1
}
command -v kubectl >/dev/null || missing "kubectl is not here"
command -v helm >/dev/null || missing "helm is not here: make tools"
[ -n "${IMAGE:-}" ] || missing "IMAGE is not set: the gateway's image, such as tidegate.local/tidegate:1"
kubectl version --request-timeout 10s >/dev/null 2>&1 \
  || missing "kubectl reaches no cluster: kind create cluster, or set KUBECONFIG"
if kubectl get namespace "$NAMESPACE" >/dev/null 2>&1; then
  missing "the namespace $NAMESPACE is there already: kubectl delete namespace $NAMESPACE"
fi

work="$(mktemp -d)"
emptied=
k() { kubectl --namespace "$NAMESPACE" "$@"; }
h() { helm --namespace "$NAMESPACE" "$@"; }
say() { printf '%4d s  %s\n' "$((SECONDS - started))" "$*"; }
leave() {
  [ -z "$emptied" ] || kubectl uncordon "$emptied" >/dev/null
  [ ! -e "$work/watch" ] || kill "$(cat "$work/watch")" 2>/dev/null || true
  [ -n "${KEEP:-}" ] || kubectl delete namespace "$NAMESPACE" "$NAMESPACE-monitoring" --ignore-not-found --wait=false >/dev/null
}
trap leave EXIT
# Waits until a command succeeds, and fails in words if it does not in so many seconds.
until_it() {
  local what=$1 seconds=$2
  shift 2
  for _ in $(seq "$seconds"); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 1
  done
  missing "not within $seconds s: $what"
}

# Everything in the namespace must be "restricted", or the API server refuses it.
kubectl create namespace "$NAMESPACE" >/dev/null
kubectl label namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted >/dev/null
sed "s|NATS_IMAGE|$NATS_IMAGE|" tests/e2e/nats.yaml | k apply --filename - >/dev/null
k rollout status statefulset/nats --timeout 3m >/dev/null
say "NATS runs"

# A drain of seconds: many rollouts fit into one run. What is tested is the same. And a node that is lost
# is given up after 20 s in place of 300.
values=(
  --set "image.repository=${IMAGE%:*}" --set "image.tag=${IMAGE##*:}"
  --set "config.limits.max_connections=$MAX_CONNECTIONS"
  --set-json 'config.namespaces={"demo": {"history": {"messages": 10000, "max_bytes": "256MiB"}}}'
  --set drain.lameDuckSeconds=3 --set drain.windowSeconds=10 --set minReadySeconds=3
  --set terminationGracePeriodSeconds=40
  --set-json 'tolerations=[{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20}]'
  --set resources.requests.cpu=100m --set resources.requests.memory=64Mi
)
ours=(--selector app.kubernetes.io/name=tidegate)
h install tidegate helm/tidegate "${values[@]}" --wait --timeout 5m >/dev/null
say "the chart is installed: $(k get pods "${ours[@]}" --no-headers | wc -l) pods are ready"
key="$(k get secret tidegate-keys --output jsonpath='{.data.api-key}')"

# Its pod is gone when it has succeeded, logs and all.
h test tidegate >/dev/null || { k logs tidegate-test; missing "helm test failed"; }
say "helm test passed"

# What becomes of each pod: the number that it ended with stands here before it is gone.
k get pods "${ours[@]}" --watch --output jsonpath='{.metadata.name} {.status.containerStatuses[0].state.terminated.exitCode}{"\n"}' \
  > "$work/pods" 2>/dev/null &
echo $! > "$work/watch"
ended_badly() {
  sed --quiet 's/^\(.*\) \([0-9][0-9]*\)$/\1 \2/p' "$work/pods" | sort --unique | grep --invert-match ' 0$' \
    | grep --invert-match --file "$work/killed" || true
}
echo '^nobody ' > "$work/killed"

k create configmap fleet --from-file tests/e2e/fleet.mjs --from-file tidegate.mjs=sdk/dist/tidegate.js >/dev/null
sed -e "s|NODE_IMAGE|$NODE_IMAGE|" -e "s|CLIENTS_|$CLIENTS|" -e "s|RATE_|$RATE|" tests/e2e/fleet.yaml \
  | k apply --filename - >/dev/null
k wait --for condition=Ready pod/fleet --timeout 2m >/dev/null
# One of the figures that the fleet says each second.
fleet() { k logs fleet --tail 1 | python3 -c 'import json, sys; says = json.load(sys.stdin); print(eval(sys.argv[1], {}, says))' "$1"; }
listening() { [ "$(fleet 'connected')" = "$CLIENTS" ] && [ "$(fleet 'published')" -gt 0 ]; }
until_it "all clients are connected" 120 listening
say "$CLIENTS clients listen, $RATE publications a second go through the Service"

# Does one thing to the release, sees it to its end, and tells what it took and what the fleet saw.
figures='published, delivered, closes.get("1006", 0), refused, sum(tries.values()), sum(gaps.values())'
settled() {
  [ "$(k get pods "${ours[@]}" --no-headers | wc -l)" = "$(k get deployment tidegate --output jsonpath='{.spec.replicas}')" ]
}
under_load() {
  local name=$1 since=$SECONDS before
  before="$(fleet "($figures)")"
  shift
  "$@" >/dev/null
  k rollout status deployment/tidegate --timeout 10m >/dev/null
  # Pods that leave are still there then.
  until_it "the pods that leave are gone" 180 settled
  until_it "all clients are connected" 120 listening
  say "$name: $((SECONDS - since)) s; meanwhile $(fleet "'%d published, %d delivered, %d closes 1006, %d dials refused, %d tries that were not taken, %d gaps' % tuple(now - then for now, then in zip(($figures), $before))")"
  [ "$(fleet 'lost + twice')" = 0 ] || missing "lost: $(fleet lost), twice: $(fleet twice)"
  [ -z "$(ended_badly)" ] || missing "pods that did not end with 0: $(ended_badly)"
}
upgrade=(h upgrade tidegate helm/tidegate "${values[@]}" --wait --timeout 10m)
under_load "nothing, for a while" sleep 20
under_load "rollout restart" k rollout restart deployment/tidegate
under_load "scaled to 3" "${upgrade[@]}" --set replicaCount=3
under_load "scaled to 2" "${upgrade[@]}" --set replicaCount=2
under_load "upgraded" "${upgrade[@]}" --set config.log.level=debug
under_load "rolled back" h rollback tidegate --wait --timeout 10m
[ "$(k get secret tidegate-keys --output jsonpath='{.data.api-key}')" = "$key" ] \
  || missing "the generated API key did not stay"

# Who is no client, and where nodes have nothing to do: open before, closed after, and open to monitoring.
reaches() { # NAMESPACE POD PORT
  local address
  address="$(k get pods "${ours[@]}" --output jsonpath='{.items[0].status.podIP}')"
  kubectl --namespace "$1" exec "$2" -- node -e "fetch('http://$address:$3/health/live', {signal: AbortSignal.timeout(5000)}).then(() => process.exit(0), () => process.exit(1))"
}
# 69: nobody there. To another gateway would be no test: some controllers take what a policy lets into a pod
# for what it lets out of it.
goes_out() {
  local to code=0
  to="$(kubectl --namespace "$NAMESPACE-monitoring" get pod probe --output jsonpath='{.status.podIP}')"
  k exec deployment/tidegate -- tidegate publish demo.out 1 --url "http://$to:8080" >/dev/null 2>&1 || code=$?
  [ "$code" != 69 ]
}
stays_in() { ! goes_out; }
kubectl create namespace "$NAMESPACE-monitoring" >/dev/null
sed "s|NODE_IMAGE|$NODE_IMAGE|" tests/e2e/monitoring.yaml | kubectl --namespace "$NAMESPACE-monitoring" apply --filename - >/dev/null
kubectl --namespace "$NAMESPACE-monitoring" wait --for condition=Ready pod/probe --timeout 2m >/dev/null
reaches "$NAMESPACE" fleet 9090 || missing "the management port does not answer"
goes_out || missing "a node does not reach the probe"
under_load "network policy" "${upgrade[@]}" --set networkPolicy.enabled=true \
  --set "networkPolicy.monitoringNamespace=$NAMESPACE-monitoring"
until_it "monitoring reaches the management port" 20 reaches "$NAMESPACE-monitoring" probe 9090
if reaches "$NAMESPACE" fleet 9090; then
  say "SKIPPED: this cluster does not enforce network policies"
else
  reaches "$NAMESPACE" fleet 8080 || missing "the network policy keeps clients out"
  until_it "a node reaches nothing that it need not" 20 stays_in
  say "enforced: clients in, monitoring in, nobody else; out to NATS alone"
fi

# NATS and the fleet stay where they are: it is the gateways' nodes that go.
other="$(k get pods "${ours[@]}" --output jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' \
  | grep --invert-match --line-regexp "$(k get pod nats-0 --output jsonpath='{.spec.nodeName}')" | head -n 1 || true)"
if [ -z "${DRAIN:-}" ] || [ -z "$other" ]; then
  say "SKIPPED: kubectl drain (DRAIN=1, and a node without NATS)"
else
  emptied=$other
  under_load "drained $other" kubectl drain "$other" --ignore-daemonsets --delete-emptydir-data --force --timeout 5m
  kubectl uncordon "$other" >/dev/null
  emptied=
fi
replaced() {
  [ "$(k get pods "${ours[@]}" --field-selector "spec.nodeName!=$other" \
    --output jsonpath='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | grep --count True)" \
    = "$(k get deployment tidegate --output jsonpath='{.spec.replicas}')" ]
}
# By their nature these end connections without a goodbye.
if [ -n "${POWER_CUT:-}" ] && [ -n "$other" ]; then
  under_load "spread again" k rollout restart deployment/tidegate
  k get pods "${ours[@]}" --field-selector "spec.nodeName=$other" --output name | sed 's|^pod/|^|' >> "$work/killed"
  cut=$SECONDS
  $POWER_CUT "$other"
  kubectl wait --for condition=Ready=Unknown "node/$other" --timeout 3m >/dev/null
  say "the power of $other was cut: the cluster says so after $((SECONDS - cut)) s"
  until_it "all clients are connected elsewhere" 300 listening
  until_it "its pods are replaced elsewhere" 180 replaced
  say "all clients are connected elsewhere, and its pods are replaced $((SECONDS - cut)) s after the cut"
  ${POWER_BACK:-true} "$other"
  kubectl wait --for condition=Ready "node/$other" --timeout 5m >/dev/null
  until_it "its pods are settled" 400 settled
fi
victim="$(k get pods "${ours[@]}" --output name | head -n 1)"
echo "^${victim#pod/} " >> "$work/killed"
under_load "killed a pod with grace 0" k delete "$victim" --grace-period 0 --force

k exec fleet -- node -e 'process.kill(1, "SIGTERM")'
until_it "the fleet ends" 180 k wait --for jsonpath='{.status.containerStatuses[0].state.terminated}' pod/fleet --timeout 1s
say "the fleet: $(k logs fleet --tail 1)"
[ "$(k get pod fleet --output jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}')" = 0 ] || missing "something was lost, or came twice"

h uninstall tidegate --wait --timeout 5m >/dev/null
left="$(k get all,configmap,secret,pdb,serviceaccount --selector app.kubernetes.io/instance=tidegate --output name 2>/dev/null | grep --invert-match '^pod/' || true)"
[ -z "$left" ] || missing "left behind: $left"
say "uninstalled, and nothing is left behind"
