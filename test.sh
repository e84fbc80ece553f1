#!/usr/bin/env bash
# Run the image on every job of test/input/ under the platform's restrictions and check its answers;
# then on a folder that is no job, which must be refused. Ends with code 1 on the first mismatch.
#
#     ./test.sh [OPTION OF docker create …]        e.g. --gpus all, which an NVIDIA engine gets anyway
#
# IMAGE   name and tag of the image, default amf:latest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
image=${IMAGE:-amf:latest}
answer=multiple-mitotic-figure-classification.json

options=("$@")
if [[ $# -eq 0 && $(docker info --format '{{json .Runtimes}}') == *nvidia* ]]; then
    options=(--gpus all)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Run one job; its exit code is ours, its output lies in $work/output, its stderr in $work/stderr.
# Created first and started after, so that the engine's own warnings do not mix with the job's stderr.
run_job() { # FOLDER
    rm -rf "$work/output"
    mkdir -m 777 "$work/output" # the container's user is nobody here
    local container
    container=$(docker create --rm --platform linux/amd64 --network none --read-only --tmpfs /tmp \
        --cap-drop ALL --security-opt no-new-privileges --memory 16g --pids-limit 512 \
        --volume "$(realpath "$1"):/input:ro" --volume "$work/output:/output" \
        "${options[@]}" "$image" 2>"$work/engine") || fail "no container: $(tail -n 1 "$work/engine")"
    docker start --attach "$container" 2>"$work/stderr"
}

user=$(docker image inspect --format '{{.Config.User}}' "$image")
[[ -n $user && $user != root && $user != 0 && $user != 0:* ]] || fail "$image runs as root: USER is '$user'"

echo "== what the image holds besides"
inside() { docker run --rm --network none --read-only --entrypoint sh "$image" -c "$1"; }
found=$(inside 'command -v cc gcc g++ clang rustc || true')
[[ -z $found ]] || fail "$image holds compilers: $found"
found=$(inside 'ls -d ~root/.cache /tmp/* /opt/app/.git ~root/.ssh ~root/.netrc ~root/.docker \
    /var/cache/apt/archives/*.deb 2>/dev/null || true')
[[ -z $found ]] || fail "$image holds caches or secrets: $found"
found=$(inside 'env' | grep -iE '^[^=]*(token|secret|password)' || true)
[[ -z $found ]] || fail "$image has secrets in its environment: $found"
inside 'cat /opt/app/sbom.json' >"$work/sbom.json"
python3 - "$work/sbom.json" requirements.txt <<'END' || fail "the bill of materials lacks a requirement"
import json, re, sys
named = {c["purl"].split("+")[0] for c in json.load(open(sys.argv[1]))["components"]}
pins = re.findall(r"^([\w-]+)==(\S+)", open(sys.argv[2]).read(), re.MULTILINE)
missing = [f"{name}=={version}" for name, version in pins if f"pkg:pypi/{name.lower()}@{version}" not in named]
print(f"no compilers, caches or secrets; a bill of {len(named)} components", *missing)
sys.exit(bool(missing))
END

for job in test/input/*/; do
    echo "== $job"
    started=$(date +%s.%N)
    run_job "$job" || fail "$job ended with code $?: $(tail -n 1 "$work/stderr")"
    ended=$(date +%s.%N)
    [[ ! -s $work/stderr ]] || fail "$job wrote to stderr: $(head -n 1 "$work/stderr")"
    python3 test/check_output.py "$work/output/$answer" test/expected.json || fail "$job: wrong answer"
    python3 -c "print(f'container started, scored and ended in {$ended - $started:.2f} s')"
done

echo "== a folder without inputs.json"
mkdir "$work/empty"
code=0
run_job "$work/empty" || code=$?
[[ $code -eq 2 ]] || fail "no job ended with code $code, expected 2"
[[ $(wc -l <"$work/stderr") -eq 1 ]] || fail "no job gave $(wc -l <"$work/stderr") lines on stderr, expected 1"
[[ -z $(ls -A "$work/output") ]] || fail "no job left $(ls -A "$work/output") in /output"
echo "refused with code 2: $(cat "$work/stderr")"
echo "passed: $image"
