#!/usr/bin/env bash
# The chart on the cluster that kubectl points at: installed beside a real NATS, tried, restarted,
# scaled, upgraded and rolled back while clients listen and somebody publishes, and taken away again.
#
#   IMAGE=tidegate.local/tidegate:1 NATS_IMAGE=nats:2.15-alpine make e2e
#
# Nodes must have both images, or get them from a registry. Publisher and listener are pods of IMAGE.
# NAMESPACE (tidegate-e2e) is made, and deleted at the end: KEEP=1 leaves it. MAX_CONNECTIONS (10000)
# must be below what the container runtime lets a process open, and 256 more.
set -euo pipefail
cd "$(dirname "$0")/../.."

NAMESPACE=${NAMESPACE:-tidegate-e2e}
NATS_IMAGE=${NATS_IMAGE:-nats:2.15-alpine}
MAX_CONNECTIONS=${MAX_CONNECTIONS:-10000}
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

k() { kubectl --namespace "$NAMESPACE" "$@"; }
h() { helm --namespace "$NAMESPACE" "$@"; }
say() { printf '%4d s  %s\n' "$((SECONDS - started))" "$*"; }
gone() {
  [ -n "${KEEP:-}" ] || kubectl delete namespace "$NAMESPACE" --wait=false >/dev/null
}
trap gone EXIT

# Everything in the namespace must be "restricted", or the API server refuses it.
kubectl create namespace "$NAMESPACE" >/dev/null
kubectl label namespace "$NAMESPACE" pod-security.kubernetes.io/enforce=restricted >/dev/null
sed "s|NATS_IMAGE|$NATS_IMAGE|" tests/e2e/nats.yaml | k apply --filename - >/dev/null
k rollout status statefulset/nats --timeout 3m >/dev/null
say "NATS runs"

# A drain of seconds: many rollouts fit into one run. What is tested is the same.
values=(
  --set "image.repository=${IMAGE%:*}" --set "image.tag=${IMAGE##*:}"
  --set "config.limits.max_connections=$MAX_CONNECTIONS"
  --set-json 'config.namespaces={"demo": {"history": {"messages": 100000}}}'
  --set drain.lameDuckSeconds=3 --set drain.windowSeconds=10 --set minReadySeconds=3
  --set terminationGracePeriodSeconds=40
  --set resources.requests.cpu=100m --set resources.requests.memory=64Mi
)
h install tidegate helm/tidegate "${values[@]}" --wait --timeout 5m >/dev/null
say "the chart is installed: $(k get pods --selector app.kubernetes.io/name=tidegate --no-headers | wc -l) pods are ready"

h test tidegate --logs
say "helm test passed"

# The client's Token comes out of the release, as one of a backend would.
config=/etc/tidegate/config/tidegate.yaml
token="$(k exec deployment/tidegate -- tidegate token --config $config --sub e2e --ttl 24h \
  --subscribe 'demo.>' --publish 'demo.>' --history 'demo.>')"
k create secret generic client --from-literal "token=$token" >/dev/null
sed "s|GATEWAY_IMAGE|$IMAGE|" tests/e2e/client.yaml | k apply --filename - >/dev/null
k wait --for condition=Ready pod/client --timeout 2m >/dev/null

# Publishes 1, 2, 3 … one after the other, each until it is taken, always with the same key. Every line of
# `tries` is one that was not taken at once.
work="$(mktemp -d)"
touch "$work/tries"
publish() {
  n=0
  until [ -e "$work/stop" ]; do
    n=$((n + 1))
    for try in $(seq 30); do
      k exec client -- tidegate publish demo.e2e "{\"n\":$n}" --key "e2e-$n" >/dev/null 2>"$work/why" && break
      echo "$n: $(tail -n 1 "$work/why")" >> "$work/tries"
      [ "$try" -lt 30 ] || { echo "$n was never taken" > "$work/failed"; return; }
      sleep 1
    done
    echo "$n" > "$work/taken"
  done
}
heard() { k logs client | sed --quiet 's/.*"n":\([0-9]*\).*/\1/p'; }
until_heard() {
  for _ in $(seq 120); do
    [ "$(heard | tail -n 1)" = "$1" ] && return
    sleep 1
  done
  missing "$1 was published, and not heard within two minutes"
}

# Nobody publishes before the client listens: what it hears begins with 0.
for _ in $(seq 60); do
  k exec client -- tidegate publish demo.e2e '{"n":0}' >/dev/null
  [ -z "$(heard)" ] || break
  sleep 1
done
until_heard 0
publish &
publisher=$!
trap 'touch "$work/stop"; wait "$publisher" || true; gone' EXIT
say "what is published through the Service arrives through the Service"
key="$(k get secret tidegate-keys --output jsonpath='{.data.api-key}')"

# Does one thing to the release, sees it to its end, and tells how long it took and how much was
# published meanwhile.
under_load() {
  local name=$1 since=$SECONDS before
  before="$(cat "$work/taken" 2>/dev/null || echo 0)"
  shift
  "$@" >/dev/null
  k rollout status deployment/tidegate --timeout 10m >/dev/null
  # Pods that leave are still there then.
  for _ in $(seq 180); do
    [ "$(k get pods --selector app.kubernetes.io/name=tidegate --no-headers | wc -l)" \
      -gt "$(k get deployment tidegate --output jsonpath='{.spec.replicas}')" ] || break
    sleep 1
  done
  say "$name: $((SECONDS - since)) s, $(($(cat "$work/taken") - before)) publications meanwhile"
}
upgrade=(h upgrade tidegate helm/tidegate "${values[@]}" --wait --timeout 10m)
under_load "rollout restart" k rollout restart deployment/tidegate
under_load "scaled to 3" "${upgrade[@]}" --set replicaCount=3
under_load "scaled to 2" "${upgrade[@]}" --set replicaCount=2
under_load "upgraded" "${upgrade[@]}" --set config.log.level=debug
under_load "rolled back" h rollback tidegate --wait --timeout 10m
[ "$(k get secret tidegate-keys --output jsonpath='{.data.api-key}')" = "$key" ] \
  || missing "the generated API key did not stay"

touch "$work/stop"
wait "$publisher"
[ ! -e "$work/failed" ] || missing "$(cat "$work/failed")"
last="$(cat "$work/taken")"
until_heard "$last"
heard | sed '/^0$/d' > "$work/heard"
seq 1 "$last" | diff --brief - "$work/heard" >/dev/null \
  || missing "not each once and in order: $(seq 1 "$last" | diff - "$work/heard" | head -n 5)"
say "$last publications, each heard once and in order; tries that were not taken at once: $(wc -l < "$work/tries")"

h uninstall tidegate --wait --timeout 5m >/dev/null
left="$(k get all,configmap,secret,pdb,serviceaccount --selector app.kubernetes.io/instance=tidegate --output name 2>/dev/null | grep --invert-match '^pod/' || true)"
[ -z "$left" ] || missing "left behind: $left"
say "uninstalled, and nothing is left behind"
