#!/usr/bin/env bash
# Build the submission image.
#
#     ./build.sh [OPTION OF docker build …]
#
# API          exec (default): one job a start; invoke: a server that scores many
# MODEL        folder of the bundle that is built in, default model
# IMAGE        name and tag of the image, default amf:latest
# BASE_IMAGE   what it is built on, default the public PyTorch runtime image named in the Dockerfile
set -euo pipefail
root=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
image=${IMAGE:-amf:latest}
api=${API:-exec}
model=${MODEL:-$root/model}

if [[ $api != exec && $api != invoke ]]; then
    echo "API is '$api', expected exec or invoke" >&2
    exit 1
fi
if [[ ! -f $model/bundle.json ]]; then
    echo "$model/bundle.json is missing: the image would have no weights" >&2
    exit 1
fi
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/amf/__init__.py")
revision=$(git -C "$root" describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)

# The engine gets what .dockerignore lets through, with the bundle as model/, wherever it lies.
mapfile -t files < <(sed -n 's/^!//p' "$root/.dockerignore" | grep -vx model)
tar --create --dereference --exclude-from <(sed -n 's,^\*\*/,,p' "$root/.dockerignore") \
    --directory "$root" .dockerignore Dockerfile "${files[@]}" \
    --directory "$(realpath "$model")" --transform 's,^\./,model/,' ./ |
    docker build --platform linux/amd64 --target "$api" --tag "$image" \
        --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
        ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} "$@" -
echo "built $image ($api): version $version, revision $revision, bundle $model"
