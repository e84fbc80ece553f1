#!/usr/bin/env bash
# Build the submission image.
#
#     ./build.sh [OPTION OF docker build …]
#
# IMAGE        name and tag of the image, default amf:latest
# BASE_IMAGE   what it is built on, default the public PyTorch runtime image named in the Dockerfile
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
image=${IMAGE:-amf:latest}

if [[ ! -f model/bundle.json ]]; then
    echo "model/bundle.json is missing: the image would have no weights" >&2
    exit 1
fi
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' amf/__init__.py)
revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)

docker build --platform linux/amd64 --tag "$image" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} "$@" .
echo "built $image: version $version, revision $revision"
