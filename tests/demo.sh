#!/usr/bin/env bash
# Shows the main job on real parts: kubectl applies deploy/samples to a real kube-apiserver, and the operator, with the
# rights of the shipped ServiceAccount alone, makes a simulated chatbot service match. Ends with 0 only if all was seen.
#
#   KEEP=1         leaves everything running, and says what to try and how to stop it
#   PROFILE=debug  takes the debug build
#
# Must not leave anything behind, however it ends: every server belongs to the keeper, see there.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly samples=deploy/samples namespace=chatbots bot=bot59aBv7wzR9 api_key=CCSB-example-only
readonly target=${CARGO_TARGET_DIR:-$PWD/target} profile=${PROFILE:-release}
readonly operator=$target/$profile/chatcaptain-operator
# what the demo starts listens on loopback, wherever a proxy leads to
export NO_PROXY=${NO_PROXY:-${no_proxy:-}},127.0.0.1,localhost,::1
export NO_PROXY=${NO_PROXY#,}
export no_proxy=$NO_PROXY
readonly simulator=$target/debug/simulator control_plane=$target/debug/control-plane

# ---------------------------------------------------------------------------------------------------- what is printed

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

note() { printf '   %s\n' "$*"; }

seen() { printf '   seen: %s\n' "$*"; }

# Prints a command, then runs it.
show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# Ends with what was not seen, and with what may tell why.
missing() {
    printf '\nNOT SEEN: %s\n' "$*" >&2
    if [[ -n ${KUBECONFIG:-} ]]; then
        kubectl -n "$namespace" get cbv,cbd --output wide --request-timeout 5s >&2 2>/dev/null || true
    fi
    if [[ -s $dir/operator.log ]]; then
        printf '\nthe last lines of the operator:\n' >&2
        tail -n 25 "$dir/operator.log" >&2
    fi
    exit 1
}

# ------------------------------------------------------------------------------------------------------- the servers

# Runs in the background, in a process group of its own, and starts the servers that it reads from its input, one a line. When the
# script ends, even by SIGKILL, the pipe between them closes, and the keeper ends what it has started.
keeper() {
    set +e
    local line
    # for tear_down, which runs when no function does
    pids=() kept=
    # its own standard error may be a pipe that somebody reads to the end
    exec 2>"$dir/keeper.log"
    trap 'exit 0' INT TERM
    trap tear_down EXIT
    # the control plane ends when the other end of its input is closed
    mkfifo "$dir/life"
    exec {life}<>"$dir/life"
    while read -r line; do
        case $line in
            keep) kept=1 ;;
            *) eval "start $line" ;;
        esac
    done
    if [[ -n $kept ]]; then
        wait
    fi
}

# NAME COMMAND...: the first line of the answer is the process id, the others are what the command prints.
start() {
    local name=$1
    shift
    "$@" <"$dir/life" 2>"$dir/$name.log" {life}>&- &
    pids+=("$!")
    echo "$!"
}

# The last one that was started ends first.
tear_down() {
    local index tries
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
        kill "${pids[index]}"
        for ((tries = 0; tries < 100; tries++)); do
            kill -0 "${pids[index]}" || break
            sleep 0.1
        done
        kill -KILL "${pids[index]}"
    done
    rm -rf "$dir"
}

# Starts a server; `pid` is its process id afterwards.
launch() {
    [[ -n ${KEEPER[1]:-} ]] || missing "the keeper of the servers: it has ended"
    printf '%q ' "$@" >&"${KEEPER[1]}"
    echo >&"${KEEPER[1]}"
    name=$1
    read -r -t 10 pid <&"${KEEPER[0]}" || missing "$name: it was not started"
}

# Waits for the next line of the server that was launched last; `line` is what it says.
hear() {
    local tries
    for ((tries = 0; tries < 60; tries++)); do
        if read -r -t 1 line <&"${KEEPER[0]}"; then
            return
        fi
        kill -0 "$pid" 2>/dev/null || break
    done
    missing "$name ready: $(tail -n 15 "$dir/$name.log")"
}

# However the script ends. A demo that is kept has the keeper go on alone.
finish() {
    local code=$?
    trap - EXIT INT TERM HUP
    if [[ -n ${watcher:-} ]]; then
        stop_watch
    fi
    if [[ -n ${KEEPER_PID:-} ]]; then
        local keeper_pid=$KEEPER_PID
        if [[ -n ${kept:-} && $code == 0 ]]; then
            echo keep >&"${KEEPER[1]}"
        else
            eval "exec ${KEEPER[1]}>&-"
            wait "$keeper_pid" || true
        fi
    fi
    exit "$code"
}

start_keeper() {
    dir=$(mktemp -d "${TMPDIR:-/tmp}/chatcaptain-demo.XXXXXX")
    trap finish EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # job control gives it a process group of its own: Ctrl-C must not reach it
    set -m
    coproc KEEPER { keeper; }
    set +m
}

# ------------------------------------------------------------------------------------------------------- preparations

build() {
    step "Building (the first time takes minutes)"
    note "the simulator and the control plane's starter"
    cargo build --locked --package simulator --package control-plane
    note "etcd, kube-apiserver and kubectl"
    local programs
    programs=$("$control_plane" get)
    note "in $programs"
    local flags=()
    if [[ $profile == release ]]; then
        note "the operator, as it is released"
        flags=(--release)
    else
        note "the operator, as a debug build"
    fi
    cargo build --locked --package chatcaptain-operator --bin chatcaptain-operator "${flags[@]}"
}

start_control_plane() {
    step "Starting a real control plane and the simulated service"
    launch control-plane "$control_plane" up --until-stdin-closes
    exports=
    until [[ $exports == *'export PATH='* ]]; do
        hear
        exports+=$line$'\n'
    done
    eval "$exports"
    # a rollout that takes a moment, as real ones do
    launch simulator "$simulator" --settings '{"rolloutMs":1000}'
    hear
    service=${line#listening on }
    note "the chatbot service: $service"
    show kubectl version
}

install() {
    step "Installing: CRDs, RBAC and the Deployment"
    show kubectl apply -k crds
    show kubectl apply -k deploy
    show kubectl wait --for condition=Established --timeout 30s crd/chatbot{version,deployment}s.chatcaptain.dev
    note "There are no nodes here, so the Deployment gets no pods: the same program runs beside it,"
    note "with the rights of its ServiceAccount."
    "$control_plane" kubeconfig --namespace chatcaptain-system --service-account chatcaptain-operator \
        --out "$dir/operator.kubeconfig"
    launch operator env KUBECONFIG="$dir/operator.kubeconfig" "$operator" run --api-url "$service" \
        --listen 127.0.0.1:0 --interval 10s
    operator_pid=$pid
    note "chatcaptain-operator run --api-url $service"
}

# ------------------------------------------------------------------------------------------------------- what is seen

# RESOURCE WHAT CONDITION...: prints what kubectl sees until all objects meet each condition.
watch_until() {
    local resource=$1 what=$2 condition
    shift 2
    printf '\n$ kubectl -n %s get %s --watch\n' "$namespace" "$resource"
    kubectl -n "$namespace" get "$resource" --watch &
    watcher=$!
    for condition in "$@"; do
        kubectl -n "$namespace" wait "$resource" --all --for "$condition" --timeout 30s >"$dir/wait.log" 2>&1 ||
            missing "$what: $(tail -n 1 "$dir/wait.log")"
    done
    stop_watch
}

stop_watch() {
    kill "$watcher"
    # without the message that it was terminated
    wait "$watcher" 2>/dev/null || true
    watcher=
}

# Waits until both environments run a version and say so.
await_live() {
    local id
    id=$(kubectl -n "$namespace" get cbv "$1" --output 'jsonpath={.status.versionId}')
    watch_until cbd "both deployments Ready on $1" "jsonpath={.status.active.versionId}=$id" condition=Ready
    show kubectl -n "$namespace" get cbv,cbd
}

apply_samples() {
    step "Git holds one version, and test and prod run it"
    show kubectl apply -k "$samples"
    watch_until cbv "support-v1 Ready" condition=Ready
    await_live support-v1
    first_id=$(kubectl -n "$namespace" get cbv support-v1 --output 'jsonpath={.status.versionId}')
    seen "the version created, and live in test and then in prod"
}

move_on() {
    step "Git moves to the next version, and no longer holds the first"
    cp -R "$samples" "$dir/git"
    sed 's/^# - version-2/- version-2/; /^- version-1/d' "$samples/kustomization.yaml" >"$dir/git/kustomization.yaml"
    sed 's/name: support-v1/name: support-v2/' "$samples/deployments.yaml" >"$dir/git/deployments.yaml"
    show diff -r -U0 "$samples" "$dir/git" || true
    show kubectl apply -k "$dir/git"
    await_live support-v2
    prune support-v1
    seen "the next version created, and live in test and then in prod; the first is kept in the service for a rollback"
}

go_back() {
    step "Git is reverted"
    show kubectl apply -k "$samples"
    await_live support-v1
    prune support-v2
    local id
    id=$(kubectl -n "$namespace" get cbv support-v1 --output 'jsonpath={.status.versionId}')
    [[ $id == "$first_id" ]] || missing "support-v1 with the version that it had, $first_id: it has $id"
    seen "the first version live again: $id, the one that was created first"
}

# Git no longer holds the object of a version; the version outlives it.
prune() {
    show kubectl -n "$namespace" delete cbv "$1" --timeout 30s || missing "$1 deleted"
    show kubectl -n "$namespace" get cbv,cbd
    local listed
    listed=$(curl -sS -H "x-chatcaptain-key: $api_key" "$service/v1/chatbots/$bot/versions") ||
        missing "the service's list"
    [[ $listed == *'"support-v1"'* && $listed == *'"support-v2"'* ]] ||
        missing "both versions in the service: $listed"
}

# Every change that took effect, one a line: operation, version, environment.
service_log() {
    curl -sS "$service/_simulator/log" | tr '}' '\n' |
        sed -nE 's/.*"operation":"([a-z]*)".*"name":"([^"]*)".*"environment":"?([a-z]*).*/\1 \2 \3/p' | sed 's/ null$//'
}

verdict() {
    step "What the service itself says"
    local log expected sorted
    log=$(service_log)
    expected="create support-v1 dev
deploy support-v1 test
deploy support-v1 prod
create support-v2 dev
deploy support-v2 test
deploy support-v2 prod
rollback support-v1 prod
rollback support-v1 test"
    nl <<<"$log"
    # going back waits for no promotion, so either environment may be first
    sorted=$(grep -v ^rollback <<<"$log"; grep ^rollback <<<"$log" | sort)
    [[ $sorted == "$expected" ]] || missing $'exactly these changes in the service:\n'"$expected"
    seen "each version created once, none deleted; in both environments deploy, deploy, rollback"
    kill -0 "$operator_pid" 2>/dev/null || missing "the operator running to the end"
}

say_what_to_try() {
    local metrics
    metrics=$(sed -nE 's/.*address=([0-9.:]+).*/\1/p' "$dir/operator.log" | head -n 1)
    step "Left running. In another shell:"
    cat <<EOF
$exports
kubectl -n $namespace get chatcaptain -o wide
kubectl -n $namespace describe cbd support-prod

# a deploy outside the operator: corrected within 10 s
curl -d '{"name": "manual"}' $service/_simulator/hand/$bot/versions
curl -d '{"name": "manual", "environment": "prod"}' $service/_simulator/hand/$bot/deploy
kubectl -n $namespace get events --field-selector involvedObject.name=support-prod

curl $service/_simulator/log      # what took effect in the service
curl $service/_simulator/         # how to make it fail
curl $metrics/metrics
tail -f $dir/operator.log

# stops everything
kill $KEEPER_PID
EOF
}

main() {
    local tool
    for tool in cargo curl; do
        command -v "$tool" >/dev/null || { echo "demo: $tool is needed" >&2 && exit 1; }
    done
    build
    SECONDS=0
    start_keeper
    start_control_plane
    install
    apply_samples
    move_on
    go_back
    verdict
    step "All of it was seen, in $SECONDS s"
    if [[ -n ${KEEP:-} ]]; then
        kept=1
        say_what_to_try
    fi
}

main
