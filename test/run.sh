#!/bin/sh
# Everything: set-up, linters, then unit tests and tests on real daemons. Closes with `N passed, N failed`.
#   npm test                      all but what is slow and rare
#   npm run test:all              that too: other designs, other versions of the daemons, an emulated machine
#   npm test -- test/kernel/bgp   only the test files whose path contains one of the words
set -eu
cd "$(dirname "$0")/.."

projects="unit kernel lab"
lint=yes
if [ "${1:-}" = --all ]; then
    projects="$projects designs rare"
    shift
elif [ $# -gt 0 ]; then
    projects="$projects designs rare"
    lint=
fi

results=$(mktemp -d)
child=
# A signal that only this shell gets reaches what it runs; that takes its namespaces down, and then this shell ends.
end() {
    trap - EXIT INT TERM HUP
    if [ -n "$child" ]; then
        kill -TERM "$child" 2> /dev/null || true
        wait "$child" || true
    fi
    rm -rf "$results"
    exit "$1"
}
trap 'end $?' EXIT
trap 'end 130' INT
trap 'end 143' TERM
trap 'end 129' HUP
status=0

run() {
    "$@" &
    child=$!
    wait "$child" || { child=; return 1; }
    child=
}
step() {
    echo "test: $*"
    run "$@" || status=1
}

run sh lab/setup.sh
if [ -n "$lint" ]; then
    step node_modules/.bin/biome check --error-on-warnings .
    step node_modules/.bin/eslint .
    step node_modules/.bin/knip --no-progress
    step node_modules/.bin/markdownlint-cli2
    step node_modules/.bin/cspell lint --no-progress --no-summary
fi
# One after the other: those that count packets want the machine for themselves.
reports=
for project in $projects; do
    step node_modules/.bin/vitest run --passWithNoTests --project "$project" --reporter=default --reporter=json \
        --outputFile.json="$results/$project.json" "$@"
    reports="$reports $results/$project.json"
done

# shellcheck disable=SC2086
node test/summary.js "$status" $reports
