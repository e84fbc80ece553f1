#!/usr/bin/env bash
# Run the image under the platform's restrictions and check it, exec or invoke, as its label says: its answers to
# every job of test/input/, what it makes of broken jobs and bundles, and what it holds besides. An invoke image
# gets all jobs one after the other through one process. Ends with code 1 on the first mismatch. An image with
# another bundle than model/ is held against `inference.py` on that bundle, run by a Python that has torch.
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
device=cpu
if [[ " ${options[*]} " == *' --gpus'* ]]; then device=cuda; fi
work=$(mktemp -d)
container=
cleanup() {
    if [[ -n $container ]]; then docker rm --force "$container" >"$work/engine" 2>&1 || true; fi
    rm -rf "$work"
}
trap cleanup EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# ---- one container under the platform's restrictions ----------------------------------------------------

# Created first and started after, so that the engine's own warnings do not mix with the container's stderr.
# Its input lies in $work/input, its output in $work/output, its bundle, if there is one, in $work/model.
create() {
    local bundle=()
    if [[ -d $work/model ]]; then bundle=(--volume "$work/model:/opt/ml/model:ro"); fi
    container=$(docker create --platform linux/amd64 --network none --read-only --tmpfs /tmp \
        --cap-drop ALL --security-opt no-new-privileges --memory 16g --pids-limit 512 \
        --volume "$work/input:/input:ro" --volume "$work/output:/output" "${bundle[@]}" \
        "${options[@]}" "$image" 2>"$work/engine") || fail "no container: $(tail -n 1 "$work/engine")"
}

remove() {
    docker rm --force "$container" >"$work/engine"
    container=
}

provide() { # FOLDER: a fresh /input and an empty /output, the folders themselves staying where they are mounted
    mkdir -p "$work/input" "$work/output"
    chmod 777 "$work/output" # the container's user is nobody here
    find "$work/input" "$work/output" -mindepth 1 -delete
    cp -RL "$1/." "$work/input"
}

# exec: one job; its exit code is ours, what it writes lies in $work/stdout and $work/stderr.
run_job() {
    local code=0
    create
    docker start --attach "$container" >"$work/stdout" 2>"$work/stderr" || code=$?
    remove
    return $code
}

# invoke: `call GET /health` or `call POST /invoke` from inside, as there is no network; prints status and body.
call() {
    docker exec "$container" python3 -c '
import sys, urllib.error, urllib.request
method, path = sys.argv[1:]
request = urllib.request.Request("http://127.0.0.1:4743" + path, method=method)
class NoRedirect(urllib.request.HTTPRedirectHandler):
    redirect_request = lambda *arguments: None
try:
    response = urllib.request.build_opener(NoRedirect).open(request, timeout=300)
except urllib.error.HTTPError as error:
    response = error
except OSError:
    print("no answer")
    sys.exit()
print(response.status, response.read().decode().strip())' "$@"
}

start_server() {
    create
    docker start "$container" >"$work/engine"
    local health
    for _ in {1..1500}; do
        health=$(call GET /health 2>"$work/engine" || true)
        case $health in
            200*) return ;;
            503* | 'no answer') sleep 0.2 ;;
            *)
                read_server_log
                fail "GET /health gave '$health': $(tail -n 1 "$work/stderr")"
                ;;
        esac
    done
    fail "no health in 300 s"
}

read_server_log() { docker logs "$container" >"$work/stdout" 2>"$work/stderr"; }

stop_server() {
    docker stop --time 20 "$container" >"$work/engine"
    read_server_log
    local code
    code=$(docker inspect --format '{{.State.ExitCode}}' "$container")
    [[ $code -eq 0 ]] || fail "the server ended with code $code on SIGTERM, expected 0"
    remove
}

# ---- what is checked ------------------------------------------------------------------------------------

check_answer() { # JOB
    [[ $(ls -A "$work/output") == "$answer" ]] || fail "$1 left $(ls -A "$work/output") in /output"
    python3 test/container/check_output.py "$work/output/$answer" "$expected" || fail "$1: wrong answer"
}

check_refused() { # SENTENCE
    [[ -z $(ls -A "$work/output") ]] || fail "no job left $(ls -A "$work/output") in /output"
    [[ $1 == *'/input/inputs.json cannot be read: No such file or directory' ]] || fail "no job gave '$1'"
    echo "refused: $1"
}

check_log() { # TEXT
    grep -qF -- "$1" "$work/stdout" || fail "the log lacks '$1': $(head -n 1 "$work/stdout")"
}

broken_bundle() { # a folder that looks like a bundle and is none
    rm -rf "$work/model"
    mkdir "$work/model"
    echo '{}' >"$work/model/bundle.json"
}

# The built-in bundle under another name and with a threshold that no figure reaches.
other_bundle() {
    rm -rf "$work/model"
    mkdir -m 777 "$work/model"
    docker run --rm --network none --volume "$work/model:/model" --entrypoint python3 "$image" -c '
import dataclasses, pathlib, shutil
from amf.model import bundle
built_in, other = pathlib.Path("model"), pathlib.Path("/model")
for weights in built_in.glob("*.safetensors"):
    shutil.copy(weights, other)
spec = bundle.read_spec(built_in)
bundle.write_spec(other, dataclasses.replace(spec, name="uploaded", threshold=1 - 1e-9))' ||
        fail "no other bundle could be written"
}

check_other_bundle() {
    check_log 'bundle uploaded on '
    if grep -q atypical "$work/output/$answer"; then fail "the bundle in /opt/ml/model was not used"; fi
    echo "a bundle in /opt/ml/model wins"
}

# Answers to expect of an image whose bundle is not the checkout's: those of inference.py here, if it can run.
expect_of_another_bundle() {
    local python
    mkdir -p "$work/built-in" "$work/reference"
    docker run --rm --network none --entrypoint tar "$image" --create --directory /opt/app/model . |
        tar --extract --directory "$work/built-in" || fail "the bundle of $image cannot be read"
    for python in .venv/bin/python python3; do
        if "$python" -c 'import torch' 2>"$work/no-torch"; then
            "$python" inference.py --input test/input/tiff --output "$work/reference" --model "$work/built-in" \
                --device cpu >"$work/reference.log" || fail "inference.py cannot score by the bundle of $image"
            expected=$work/reference/$answer
            echo "$image holds another bundle than model/: its answers are held against those of inference.py"
            return
        fi
    done
    expected=--form
    echo "$image holds another bundle than model/, and no Python here has torch: only the form is checked"
}

test_exec() {
    for job in test/input/*/; do
        echo "== $job"
        provide "$job"
        started=$(date +%s.%N)
        run_job || fail "$job ended with code $?: $(tail -n 1 "$work/stderr")"
        ended=$(date +%s.%N)
        [[ ! -s $work/stderr ]] || fail "$job wrote to stderr: $(head -n 1 "$work/stderr")"
        check_log " on $device"
        check_answer "$job"
        python3 -c "print(f'container started, scored and ended in {$ended - $started:.2f} s')"
    done

    echo "== a folder without inputs.json"
    mkdir "$work/empty"
    provide "$work/empty"
    code=0
    run_job || code=$?
    [[ $code -eq 2 ]] || fail "no job ended with code $code, expected 2"
    [[ $(wc -l <"$work/stderr") -eq 1 ]] || fail "no job gave $(wc -l <"$work/stderr") lines on stderr, expected 1"
    check_refused "$(cat "$work/stderr")"

    echo "== bundles in /opt/ml/model"
    provide "$job"
    other_bundle
    run_job || fail "another bundle ended with code $?: $(tail -n 1 "$work/stderr")"
    check_other_bundle
    provide "$job"
    broken_bundle
    code=0
    run_job || code=$?
    [[ $code -eq 3 ]] || fail "a broken bundle ended with code $code, expected 3"
    [[ -z $(ls -A "$work/output") ]] || fail "a broken bundle left $(ls -A "$work/output") in /output"
    echo "refused: $(cat "$work/stderr")"
}

test_invoke() {
    mkdir "$work/empty"
    provide "$work/empty"
    started=$(date +%s.%N)
    start_server
    ended=$(date +%s.%N)
    python3 -c "print(f'container started and ready in {$ended - $started:.2f} s')"
    local jobs=0 reply
    for job in test/input/*/; do
        echo "== $job"
        provide "$job"
        reply=$(call POST /invoke)
        [[ $reply == 201* ]] || fail "$job got '$reply', expected 201"
        check_answer "$job"
        jobs=$((jobs + 1))

        provide "$work/empty"
        reply=$(call POST /invoke)
        [[ $reply == 422* ]] || fail "no job got '$reply', expected 422"
        check_refused "${reply#422 }"
        [[ $(call GET /health) == 200* ]] || fail "the server is not healthy after a broken job"
        read_server_log
        [[ $(wc -l <"$work/stderr") -eq $jobs && $(tail -n 1 "$work/stderr") == "${reply#422 }" ]] ||
            fail "$jobs broken jobs gave $(wc -l <"$work/stderr") lines on stderr: $(tail -n 1 "$work/stderr")"
        check_log " on $device"
    done
    stop_server
    echo "$jobs jobs and as many broken ones through one process, which SIGTERM ended with code 0"

    echo "== bundles in /opt/ml/model"
    other_bundle
    provide "$job"
    start_server
    reply=$(call POST /invoke)
    [[ $reply == 201* ]] || fail "another bundle got '$reply', expected 201"
    stop_server
    check_other_bundle
    broken_bundle
    code=0
    run_job || code=$?
    [[ $code -eq 3 ]] || fail "a broken bundle ended the server with code $code, expected 3"
    echo "refused: $(cat "$work/stderr")"
}

user=$(docker image inspect --format '{{.Config.User}}' "$image")
[[ -n $user && $user != root && $user != 0 && $user != 0:* ]] || fail "$image runs as root: USER is '$user'"

inside() { docker run --rm --network none --read-only --entrypoint sh "$image" -c "$1"; }
expected=test/expected.json
inside 'cat /opt/app/model/bundle.json' >"$work/bundle.json"
if ! cmp --silent "$work/bundle.json" model/bundle.json; then expect_of_another_bundle; fi

echo "== what the image holds besides"
found=$(inside 'for name in cc c++ gcc g++ cpp clang rustc; do command -v $name; done; ls /usr/bin/*-gcc* 2>/dev/null; true')
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

api=$(docker image inspect --format '{{index .Config.Labels "org.grand-challenge.api-method"}}' "$image")
case $api in
    '') test_exec ;;
    invoke) test_invoke ;;
    *) fail "$image has the API method '$api', which the platform rejects: expected invoke or no label" ;;
esac
echo "passed: $image (${api:-exec})"
