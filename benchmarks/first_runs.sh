#!/usr/bin/env bash
# Leaves and faces at 32 px through the tutorial's commands, then their numbers and pictures.
# About an hour and a half of one core. Repeat it after an interruption: training resumes.
#   DATA=../shared bash benchmarks/first_runs.sh
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=${DATA:-../shared}
export TORCH_HOME=${TORCH_HOME:-$DATA/torch} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
stylex() { .venv/bin/python -W ignore -m stylex "$@"; }

[ -d runs/leaves-classifier ] ||
  stylex train-classifier --data "$DATA/data/leaves64.zip" --resolution 32 --half a --out runs/leaves-classifier
stylex train --data "$DATA/data/leaves64.zip" --classifier runs/leaves-classifier \
  --resolution 32 --flips --total-images 60000 --adversarial-from-images 32000 \
  --snapshot-images 10000 --run runs/leaves
# another's classifier takes more time than all networks together: its KL on a quarter of each batch
stylex train --data "$DATA/data/faces64.zip" --classifier "$DATA/weights/face_gender.ts" --classes male,female \
  --resolution 32 --flips --total-images 18000 --snapshot-images 6000 --kl-share 0.25 --run runs/faces

for run in leaves faces; do
  stylex search --run runs/$run --images $([ $run = leaves ] && echo 100 || echo 16) --count 8
done
photo() { unzip -p "$DATA/data/$1" "$(unzip -Z1 "$DATA/data/$1" "$2" | sed -n "${3}p")" >"$4"; }
photo leaves64.zip 'test/healthy/*' 20 runs/healthy-leaf.jpg
photo leaves64.zip 'test/sick/*' 20 runs/sick-leaf.jpg
photo faces64.zip 'test/female/*' 20 runs/face-a.jpg
photo faces64.zip 'test/male/*' 20 runs/face-b.jpg
stylex explain runs/healthy-leaf.jpg --run runs/leaves --target sick
stylex explain runs/sick-leaf.jpg --run runs/leaves --target healthy
stylex explain runs/face-a.jpg --run runs/faces --target male
stylex explain runs/face-b.jpg --run runs/faces --target female
for run in leaves faces; do stylex report --run runs/$run; done
.venv/bin/python benchmarks/first_runs.py
