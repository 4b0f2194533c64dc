#!/bin/sh
# Sets up what is missing and runs the lab: `npm run lab -- --help`.
set -eu
here=$(dirname "$0")
case " $* " in
*" --help "* | *" -h "*)
    # Help needs neither root nor packages, only a build.
    [ ! -e "$here/../dist/lab/main.js" ] || exec node "$here/../dist/lab/main.js" "$@"
    ;;
esac
sh "$here/setup.sh"
exec node "$here/../dist/lab/main.js" "$@"
