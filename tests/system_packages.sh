#!/bin/sh
# The servers and the browser that the tests run for real come from Debian. As root they are installed here;
# otherwise this says what is missing and fails, so that no test is skipped in silence.
set -eu
need="chromium:chromium prometheus:promtool"
missing=""
for item in $need; do
  command -v "${item#*:}" >/dev/null 2>&1 || missing="$missing ${item%%:*}"
done
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
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
