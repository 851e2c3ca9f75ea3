#!/bin/sh
# What the tests of the report need beside Python: Chromium, and axe-core for accessibility. Where they are missing they
# are fetched, if that is possible; if not, one line says so, and these tests are skipped.

found() { command -v "$1" >/dev/null 2>&1; }

if ! found chromium && ! found chromium-browser && ! found google-chrome && ! found google-chrome-stable && ! found chrome
then
  if [ "$(id -u)" = 0 ] && found apt-get; then
    echo "Installing Chromium, for the tests of the report." >&2
    export DEBIAN_FRONTEND=noninteractive
    { timeout 120 apt-get update && timeout 300 apt-get install --yes --no-install-recommends chromium; } \
      >/dev/null 2>&1 </dev/null
  fi
  found chromium || echo "No Chromium here, so no report is opened in a browser: apt install chromium" >&2
fi

if [ ! -f node_modules/axe-core/axe.min.js ]; then
  found npm && timeout 60 npm install --prefix . --no-save --no-package-lock --silent axe-core@4 >/dev/null 2>&1 </dev/null
  [ -f node_modules/axe-core/axe.min.js ] \
    || echo "No axe-core here, so the accessibility of the report is not checked: npm install --no-save axe-core" >&2
fi
exit 0
