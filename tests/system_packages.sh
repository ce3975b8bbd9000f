#!/bin/sh
# The servers and the browser that the tests run for real come from Debian. As root they are installed here;
# otherwise this says what is missing and fails, so that no test is skipped in silence.
set -eu
# Package and program; a program with a path is a pattern, as Debian keeps PostgreSQL's off the path.
need="chromium:chromium prometheus:promtool postgresql:/usr/lib/postgresql/*/bin/postgres"
there() {
  case "$1" in
  /*)
    for found in $1; do [ -x "$found" ] && return 0; done
    return 1
    ;;
  *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}
missing=""
set -f # a pattern stays one until `there` looks for it
for item in $need; do
  set +f
  there "${item#*:}" || missing="$missing ${item%%:*}"
  set -f
done
set +f
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "the tests need these Debian packages, which are missing:$missing" >&2
  echo "install them as root (apt-get install$missing) and run \`make test\` again" >&2
  exit 1
fi
echo "installing$missing …"
# Packages must not start their services: the tests start what they need on free ports and stop it by pid.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
# PostgreSQL would also make a cluster, which nobody uses here.
cluster=/etc/postgresql-common/createcluster.conf
if [ ! -e "$cluster" ]; then
  mkdir -p "${cluster%/*}"
  echo "create_main_cluster = false" >"$cluster"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold $missing >/dev/null
