#!/bin/sh
# Everything: set-up, linters, then unit tests and tests on real daemons. Closes with `N passed, N failed`.
#   npm test                      all of it
#   npm test -- test/kernel/bgp   only the test files whose path contains one of the words
set -eu
cd "$(dirname "$0")/.."
sh lab/setup.sh

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
status=0

step() {
    echo "test: $*"
    "$@" || status=1
}

if [ $# = 0 ]; then
    step npx biome check --error-on-warnings .
    step npx eslint .
    step npx knip --no-progress
    step npx markdownlint-cli2
    step npx cspell lint --no-progress --no-summary
fi
# One after the other: the last, which count packets, want the machine for themselves.
for project in unit kernel lab; do
    step npx vitest run --passWithNoTests --project "$project" --reporter=default --reporter=json \
        --outputFile.json="$results/$project.json" "$@"
done

node test/summary.js "$status" "$results"/unit.json "$results"/kernel.json "$results"/lab.json
