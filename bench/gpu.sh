#!/bin/sh
# Everything that only a GPU can show, in one call of at most nine minutes, without a network.
#
#     sh bench/gpu.sh [--tiny]
#
# OUT      folder for gpu.json and gpu.md, default build/gpu
# WHEELS   folder of wheels of what this Python lacks (pytorch-metric-learning, say); a stage that needs a package which is
#          neither installed nor there is left out by name
# PYTHON   default python3; torch and timm are all that scoring needs
# --tiny   a small network, on the CPU where there is no GPU: shows that every stage runs, its figures mean nothing
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-build/gpu}
mkdir -p "$OUT"
export PYTHONPATH="$PWD" PYTHONUNBUFFERED=1
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
    export PYTHONPATH="$PWD:$site"
fi
"$PYTHON" -m bench.gpu --out "$OUT" "$@"
