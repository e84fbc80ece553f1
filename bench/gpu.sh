#!/bin/sh
# Everything that only a GPU can show, in one call; what lacks its weights or data says so and is left out.
#   sh bench/gpu.sh            DATA=folder of `amf data`, EFFICIENTNET=ImageNet weights as model.safetensors
cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH=. PYTHONUNBUFFERED=1
PYTHON=${PYTHON:-python3}

if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "bench/gpu.sh: torch sees no CUDA device, so there is nothing to measure here."
    exit 0
fi
failed=0
echo "== training"
"$PYTHON" bench/train.py vit ${DATA:+--data "$DATA"} || failed=1
echo "== jobs"
if [ -f bench/job.py ]; then "$PYTHON" bench/job.py compact vit-g || failed=1; else echo "bench/job.py is not here"; fi
echo "== augmentation"
"$PYTHON" bench/augment.py --device cuda || failed=1
echo "== ablation with EfficientNetV2-S"
if [ -n "${DATA:-}" ] && [ -n "${EFFICIENTNET:-}" ] && [ -f recipes/ablation.yaml ]; then
    mkdir -p build
    sed "s|weights: hub.*|weights: $EFFICIENTNET|" recipes/ablation.yaml >build/ablation.yaml
    "$PYTHON" -m amf ablate build/ablation.yaml --data "$DATA" --out build/ablation || failed=1
else
    echo "needs DATA, EFFICIENTNET and recipes/ablation.yaml"
fi
exit $failed
