#!/usr/bin/env bash
# Save the image for upload: one gzipped archive that holds exactly one image.
#
#     ./export.sh [FILE]        default build/amf.tar.gz
#
# IMAGE   name and tag of the image, default amf:latest
# MODEL   folder of a bundle to upload apart from the image: it is packed as model.tar.gz beside FILE. The
#         platform unpacks it at /opt/ml/model, where it wins over the image's own.
set -euo pipefail
image=${IMAGE:-amf:latest}
[[ ${image##*/} == *:* ]] || image+=:latest # else every tag of that name would be saved
file=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/build/amf.tar.gz}")
model_file=$(dirname "$file")/model.tar.gz
limit_bytes=$((10 * 1024 ** 3)) # the platform's
gzip=$(command -v pigz || echo gzip) # pigz compresses on all cores

if [[ -n ${MODEL:-} && ! -f $MODEL/bundle.json ]]; then
    echo "$MODEL/bundle.json is missing: $MODEL is no bundle" >&2
    exit 1
fi
mkdir -p "$(dirname "$file")"
trap 'rm -f "$file.partial" "$model_file.partial"' EXIT
docker save "$image" | "$gzip" >"$file.partial"

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
if [[ -n ${MODEL:-} ]]; then
    tar --create --dereference --directory "$MODEL" --sort name --owner 0 --group 0 --mode a+rX,go-w \
        --exclude '*.partial' ./ | "$gzip" >"$model_file.partial"
    mv "$model_file.partial" "$model_file"
    echo "packed the bundle $MODEL as $model_file: $(($(wc -c <"$model_file") / 1024 ** 2)) MiB"
fi
mv "$file.partial" "$file"
echo "saved $image alone in $file: $((bytes / 1024 ** 2)) MiB"
