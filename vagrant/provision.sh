#!/bin/sh
# Installs the built clusterd as a service on a Debian machine: provision.sh ADDRESS
# May be run again, also to install newer binaries; containers go on meanwhile.
set -eu

address=${1:?usage: provision.sh ADDRESS, the one at which the other machines reach this one}
bin=/opt/clusterd/bin
here=$(cd "$(dirname "$0")" && pwd)
# Vagrant runs a copy of this script from elsewhere.
[ -f "$here/clusterd.service" ] || here=/vagrant

for program in clusterd clusterctl; do
    if [ ! -x "$bin/$program" ]; then
        echo "provision: there is no $bin/$program: run \`make build\` on the host, then \`vagrant rsync\`" >&2
        exit 1
    fi
done

if ! command -v nft >/dev/null || ! command -v curl >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -yq --no-install-recommends nftables curl ca-certificates
fi

install -m 755 "$bin/clusterd" "$bin/clusterctl" /usr/local/bin/
if ! clusterd --version; then
    echo "provision: clusterd doesn't run here: it was built on a newer system than this; build it on Debian 12" >&2
    exit 1
fi

# Members may use clusterctl; that is as much as root.
getent group clusterd >/dev/null || groupadd --system clusterd
if getent passwd vagrant >/dev/null; then usermod -aG clusterd vagrant; fi

# A Vagrant machine has two addresses, and the default route is not the one to the others.
echo "CLUSTERD_ADVERTISE_ADDR=$address" >/etc/default/clusterd
install -m 644 "$here/clusterd.service" /etc/systemd/system/clusterd.service
systemctl daemon-reload
systemctl enable clusterd
systemctl restart clusterd

tries=0
until clusterctl status >/dev/null 2>&1 || [ -S /run/clusterd/clusterd.sock ]; do
    tries=$((tries + 1))
    if [ "$tries" -ge 100 ]; then
        journalctl -u clusterd -n 30 --no-pager >&2
        echo "provision: clusterd does not answer after 10 s; its log is above" >&2
        exit 1
    fi
    sleep 0.1
done
