# Installs the packages named in the arguments; runs as root.
#
# A package with a daemon starts and enables it on installation. The tests start their own, in
# namespaces, and nobody wants a SIP server or a routing daemon on the machine for having built this
# project. So starting is forbidden for as long as apt-get runs, in the way that Debian has for it
# (policy-rc.d), and a service that was not there before is disabled afterwards.
set -eu

policy=/usr/sbin/policy-rc.d
mark='written by cargo xtask setup'
# An existing policy is somebody else's, unless it is ours, left behind by a kill.
if [ ! -e "$policy" ] || grep -q "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\n# %s, and removed at its end\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
fi

new_services=
for package in "$@"; do
    case $package in
    kamailio) service=kamailio ;;
    bird2) service=bird ;;
    *) continue ;;
    esac
    # `dpkg-query` fails for a package it never heard of.
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || new_services="$new_services $service"
done

DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends \
    -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >&2

# update-rc.d speaks for systemd, too.
for service in $new_services; do
    update-rc.d "$service" disable >&2
done
