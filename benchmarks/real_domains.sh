#!/usr/bin/env bash
# Leaves, faces, retina and digits at 32 px: classifier, training, search, evidence, explanations,
# report. Faces are explained with another's classifier, faces-own with one trained here. The same
# settings everywhere; one core a domain, half an hour of it for the training. Digits are trained
# with the defaults alone: nobody tuned on them.
# Repeat it after an interruption: what is done stays, training resumes. Runs say what they are:
# runs/leaves, runs/leaves-64 (RESOLUTION), runs/leaves-1 (SEED), runs/leaves-blind (BLIND).
#   DATA=../shared bash benchmarks/real_domains.sh              # all
#   DATA=../shared IMAGES=500000 bash benchmarks/real_domains.sh leaves
#   DATA=../shared BLIND=1 bash benchmarks/real_domains.sh leaves    # no classifier in training
#   DATA=../shared SEED=1 bash benchmarks/real_domains.sh leaves     # the same classifier
#   DATA=../shared RESOLUTION=64 PYTHON=python3 bash benchmarks/real_domains.sh
#   OPTIONS="--batch 64 --flips" TAG=-long BESIDE=4 ...    # other options for all, runs/leaves-long,
#       and what follows a training goes on beside the next one, on so many cores (with a GPU)
#   python benchmarks/real_domains.py                           # the table and the pictures
set -euo pipefail
cd "$(dirname "$0")/.."
DATA=${DATA:-../shared} IMAGES=${IMAGES:-48000} RESOLUTION=${RESOLUTION:-32} SEED=${SEED:-0}
PYTHON=${PYTHON:-.venv/bin/python}
export TORCH_HOME=${TORCH_HOME:-$DATA/torch} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# the defaults; only, another's classifier takes more time than all networks together, so KL on a
# quarter of each batch, the same for all
RECIPE=(--kl-share 0.25)
[ -z "${BLIND:-}" ] || RECIPE=(--no-condition --kl-weight 0)
read -ra more <<<"${OPTIONS:-}"
RECIPE+=(${more[@]+"${more[@]}"})
at= && [ "$RESOLUTION" = 32 ] || at=-$RESOLUTION
of=${TAG:-} && [ "$SEED" = 0 ] || of+=-$SEED
stylex() { "$PYTHON" -W ignore -m stylex "$@"; }

twentieth() { # of a folder in a zip
  "$PYTHON" -c 'import sys, zipfile
photos = zipfile.ZipFile(sys.argv[1])
names = [name for name in photos.namelist() if name.startswith(sys.argv[2] + "/")]
sys.stdout.buffer.write(photos.read(names[19]))' "$@"
}

domain() { # name, photos, then "folder target" for each photo to explain
  local name=$1 photos=$DATA/data/$2 classifier=runs/$1-classifier$at classes=() mode=auto
  local run=runs/$1$at$of${BLIND:+-blind} recipe=("${RECIPE[@]}")
  [ "$name" != digits ] || [ -n "${BLIND:-}" ] || recipe=()
  shift 2
  if [ "$name" = faces ]; then # made by others, explained as it is
    classifier=$DATA/weights/face_gender.ts classes=(--classes male,female)
    mode=fast # an exact search asks this classifier for an hour
  elif [ ! -f "$classifier/classifier.json" ]; then
    stylex train-classifier --data "$photos" --resolution "$RESOLUTION" --half a --out "$classifier"
  fi
  stylex train --data "$photos" --classifier "$classifier" ${classes[@]+"${classes[@]}"} \
    --resolution "$RESOLUTION" --total-images "$IMAGES" --seed "$SEED" --run "$run" \
    ${recipe[@]+"${recipe[@]}"}
  if [ -n "${BESIDE:-}" ]; then
    OMP_NUM_THREADS=$BESIDE study "$name" "$photos" "$run" "$mode" "$@" >"$run/study.log" 2>&1 &
    beside+=($!)
  else
    study "$name" "$photos" "$run" "$mode" "$@"
  fi
}

study() { # name, photos, run, mode of the search, then "folder target" for each photo to explain
  local name=$1 photos=$2 run=$3 mode=$4 pair
  shift 4
  [ -f "$run/search.json" ] || stylex search --run "$run" --images 64 --count 10 --mode "$mode"
  grep -q '"evaluated"' "$run/metrics.json" || stylex evaluate --run "$run" --images 300
  for pair in "$@"; do
    set -- $pair
    twentieth "$photos" "$1" >"$run/${run##*/}-${1##*/}.png"
    stylex explain "$run/${run##*/}-${1##*/}.png" --run "$run" --target "$2"
  done
  stylex report --run "$run"
}

beside=()
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
for one in ${beside[@]+"${beside[@]}"}; do wait "$one" || exit; done
