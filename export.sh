#!/usr/bin/env bash
# Save the image for upload: one gzipped archive that holds exactly one image.
#
#     ./export.sh [FILE]        default build/amf.tar.gz
#
# IMAGE   name and tag of the image, default amf:latest
set -euo pipefail
image=${IMAGE:-amf:latest}
file=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/build/amf.tar.gz}")
limit_bytes=$((10 * 1024 ** 3)) # the platform's

mkdir -p "$(dirname "$file")"
trap 'rm -f "$file.partial"' EXIT
docker save "$image" | gzip >"$file.partial"

# A name without a tag would have saved every tag of it.
images=$(tar --extract --gzip --to-stdout --file "$file.partial" manifest.json |
    python3 -c 'import json, sys; print(*(tag for image in json.load(sys.stdin) for tag in image["RepoTags"]))')
if [[ $images != "$image" ]]; then
    echo "the archive holds '$images', expected '$image' alone" >&2
    exit 1
fi
bytes=$(wc -c <"$file.partial")
if ((bytes > limit_bytes)); then
    echo "the archive takes $bytes bytes, more than the $limit_bytes the platform accepts" >&2
    exit 1
fi
mv "$file.partial" "$file"
echo "saved $image alone in $file: $((bytes / 1024 ** 2)) MiB"
