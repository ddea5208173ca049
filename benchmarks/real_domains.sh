#!/usr/bin/env bash
# Leaves, faces, retina and digits at 32 px: classifier, training, search, evidence, explanations,
# report. Faces are explained with another's classifier, faces-own with one trained here. The same
# settings everywhere; one core a domain, half an hour of it for the training.
# Repeat it after an interruption: what is done stays, training resumes.
#   DATA=../shared bash benchmarks/real_domains.sh              # all
#   DATA=../shared IMAGES=500000 bash benchmarks/real_domains.sh leaves
#   DATA=../shared BLIND=1 bash benchmarks/real_domains.sh leaves    # no classifier in training
#   python benchmarks/real_domains.py                           # the table and the pictures
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=${DATA:-../shared} IMAGES=${IMAGES:-48000}
export TORCH_HOME=${TORCH_HOME:-$DATA/torch} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# the defaults; only, another's classifier takes more time than all networks together, so KL on a
# quarter of each batch, the same for all
RECIPE=(--kl-share 0.25)
[ -z "${BLIND:-}" ] || RECIPE=(--no-condition --kl-weight 0)
stylex() { .venv/bin/python -W ignore -m stylex "$@"; }

domain() { # name, photos, then "folder target" for each photo to explain
  local name=$1 photos=$DATA/data/$2 classifier=runs/$1-classifier classes=() mode=auto pair
  local run=runs/$1${BLIND:+-blind}
  shift 2
  if [ "$name" = faces ]; then # made by others, explained as it is
    classifier=$DATA/weights/face_gender.ts classes=(--classes male,female)
    mode=fast # an exact search asks this classifier for an hour
  elif [ ! -d "$classifier" ]; then
    stylex train-classifier --data "$photos" --resolution 32 --half a --out "$classifier"
  fi
  stylex train --data "$photos" --classifier "$classifier" ${classes[@]+"${classes[@]}"} \
    --resolution 32 --total-images "$IMAGES" --run "$run" "${RECIPE[@]}"
  [ -f "$run/search.json" ] || stylex search --run "$run" --images 64 --count 10 --mode $mode
  grep -q '"evaluated"' "$run/metrics.json" || stylex evaluate --run "$run" --images 300
  for pair in "$@"; do # the twentieth of a folder
    set -- $pair
    unzip -p "$photos" "$(unzip -Z1 "$photos" "$1/*" | sed -n 20p)" >"runs/$name-${1##*/}.png"
    stylex explain "runs/$name-${1##*/}.png" --run "$run" --target "$2"
  done
  stylex report --run "$run"
}

for name in ${@:-leaves faces retina digits}; do
  case $name in
  leaves) domain leaves leaves64.zip "test/healthy sick" "test/sick healthy" ;;
  faces) domain faces faces64.zip "test/male female" "test/female male" ;;
  faces-own) domain faces-own faces64.zip "test/male female" "test/female male" ;;
  retina) domain retina retina64.zip "test/normal diabetic_retinopathy" "test/glaucoma normal" ;;
  digits) domain digits digits_3v8_28.zip "3 8" "8 3" ;;
  *) echo "no domain $name; wanted leaves, faces, faces-own, retina or digits" >&2 && exit 2 ;;
  esac
done
