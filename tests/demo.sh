#!/bin/bash
# The tutorial, played on a lab of two hosts: cluster, network, deploy, a page that counts across
# hosts, a look around, removal. Each command is shown as one would type it. `make demo` builds what
# it needs and calls it; KEEP=1 leaves the lab standing.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
target=${CARGO_TARGET_DIR:-$root/target}
export PATH=${BIN_DIR:-$target/debug}:$PATH
node1=192.168.205.10
step=0

bold() { if [ -t 1 ]; then printf '\033[1m%s\033[0m\n' "$*"; else printf '%s\n' "$*"; fi; }

title() {
    step=$((step + 1))
    printf '\n'
    bold "== $step. $*"
}

fail() {
    printf '\ndemo: FAILED: %s\n' "$*" >&2
    exit 1
}

# shown NODE COMMAND...: show it, run it there, fail if it fails or takes too long.
shown() {
    local node=$1 text
    shift
    text=$*
    bold "$node\$ $text"
    timeout 330 lab run "$node" -- "$@" || fail "\`$text\` on $node ended with code $?"
}

# What a deployment may leave on a node, as text.
traces() {
    # shellcheck disable=SC2016 # expanded on the node
    lab run "$1" -- sh -c '
        echo "-- links"; ip -o link show | sed -E "s/^[0-9]+: ([^:@]+).*/\1/" | sort
        echo "-- addresses"; ip -o addr show scope global | awk "{print \$2, \$4}" | sort
        echo "-- namespaces"; find /run/netns /run/clusterd -name "*netns*" -o -path "*/netns/*" | sort
        echo "-- mounts"; awk "{print \$2, \$3}" /proc/self/mounts | sort
        echo "-- nft"; nft list ruleset
        echo "-- shims"; own=$(readlink /proc/self/ns/mnt)
        for p in /proc/[0-9]*; do
            [ "$(readlink $p/ns/mnt 2>/dev/null)" = "$own" ] && tr "\0" " " <$p/cmdline 2>/dev/null | grep " shim "
        done
        echo "-- containers"; find /var/lib/clusterd/containers /run/clusterd -mindepth 2 -maxdepth 2 2>/dev/null | sort'
}

finish() {
    local code=$?
    trap - EXIT
    if [ "$code" != 0 ] && lab status --name demo >/dev/null 2>&1; then
        for node in node1 node2; do
            printf '\n--- end of the log of %s ---\n' "$node" >&2
            lab logs -n 40 "$node" >&2 || true
        done
    fi
    if [ -n "${KEEP:-}" ]; then
        cat <<-END

		The lab stands. Look around with
		    $(command -v lab) run node1 -- clusterctl status
		    $(command -v lab) run node2 -- sh
		    $(command -v lab) status
		and remove it with
		    $(command -v lab) down
		END
    else
        lab down || code=1
    fi
    [ "$code" != 0 ] || printf '\ndemo: all of it worked\n'
    exit "$code"
}

[ "$(id -u)" = 0 ] || fail "needs root, for the lab's namespaces: sudo make demo"
for image in flask-redis redis; do
    [ -f "$target/images/$image.tar" ] || fail "there is no $target/images/$image.tar: run make images"
done

lab down
trap finish EXIT
bold "A lab of two hosts"
lab up --no-init || fail "the lab did not come up"

title "Two commands make a cluster"
shown node1 clusterctl init --advertise-addr "$node1"
token=$(lab run node1 -- clusterctl join-token -q worker)
shown node2 clusterctl join --token "$token" "$node1"
for _ in $(seq 100); do
    ready=$(lab run node1 -- clusterctl node ls --format json | jq '[.[] | select(.status.state == "ready")] | length')
    [ "$ready" = 2 ] && break
    sleep 0.1
done
[ "$ready" = 2 ] || fail "after 10 s $ready of 2 nodes are ready"
for node in node1 node2; do
    shown $node clusterctl node ls
    shown $node clusterctl status
done

title "A network on all of them"
shown node1 clusterctl network create -d overlay demo
shown node2 clusterctl network ls
lab run node2 -- clusterctl network ls --format json | jq -e 'any(.spec.name == "demo")' >/dev/null ||
    fail "node2 does not list the network demo"
before1=$(traces node1)
before2=$(traces node2)

title "One file deploys redis on node2 and the page on node1"
shown node1 clusterctl image load -i "$target/images/flask-redis.tar"
shown node2 clusterctl image load -i "$target/images/redis.tar"
cd "$root/vagrant"
bold "node1\$ cat examples/flask-redis.yml"
grep -v '^#' examples/flask-redis.yml
shown node1 clusterctl deploy -c examples/flask-redis.yml shop

title "The page counts, on another host"
# A container runs at once; Python needs a moment more until it listens. The connection tells, no visit is counted.
for _ in $(seq 300); do
    (exec 3<>"/dev/tcp/$node1/5000") 2>/dev/null && break
    sleep 0.1
done
# A task runs once its process does; Flask listens about a second after that.
for _ in $(seq 300); do
    if (exec 3<>"/dev/tcp/$node1/5000") 2>/dev/null; then break; fi
    sleep 0.1
done
last=0
for _ in 1 2 3; do
    bold "\$ curl http://$node1:5000/"
    answer=$(curl -fsS --max-time 10 "http://$node1:5000/") || fail "the page does not answer"
    printf '%s\n' "$answer"
    seen=$(sed -n 's/^Hello Container World! I have been seen \([0-9]*\) times\.$/\1/p' <<<"$answer")
    [ -n "$seen" ] || fail "that is not the page"
    [ "$seen" -gt "$last" ] || fail "it does not count: $seen after $last"
    last=$seen
done

title "A look around, from either node"
for node in node1 node2; do
    [ "$node" = node1 ] && before=$before1 || before=$before2
    [ "$before" != "$(traces "$node")" ] || fail "a running stack leaves no trace on $node: the last step would see nothing"
done
pids=$(lab run node1 -- clusterctl stack ps shop --format json | jq -r '.[].status.pid // empty')
[ -n "$pids" ] || fail "no running task has a pid"
shown node1 clusterctl stack ps shop
shown node2 clusterctl service ls
shown node2 clusterctl service ps shop_web
shown node2 clusterctl service logs shop_web
shown node1 clusterctl exec shop_redis.1 redis-cli get hits
hits=$(lab run node1 -- clusterctl exec shop_redis.1 redis-cli get hits)
[ "${hits//[^0-9]/}" = "$last" ] || fail "redis says $hits, the page said $last"
shown node2 clusterctl exec shop_web.1 getent hosts redis
shown node1 clusterctl service scale shop_redis=2
shown node1 clusterctl service ls
shown node1 clusterctl stack rm shop

title "Nothing is left"
for node in node1 node2; do
    [ "$node" = node1 ] && before=$before1 || before=$before2
    left=
    for _ in $(seq 100); do
        left=$(diff <(printf '%s\n' "$before") <(traces "$node")) && break
        sleep 0.1
    done
    [ -z "$left" ] || fail "$node differs from before the deploy:"$'\n'"$left"
    echo "$node: no process, container, namespace, link, address, nft rule or mount more than before the deploy"
done
for pid in $pids; do
    [ ! -d "/proc/$pid" ] || fail "process $pid of a removed task is left: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
done
shown node1 clusterctl service ls
shown node1 clusterctl network rm demo
