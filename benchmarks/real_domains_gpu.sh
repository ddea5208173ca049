#!/usr/bin/env bash
# The three domains at 64 px on a GPU, in segments: each ends after so many seconds wherever it is,
# and says "done" or "to be continued"; the same command goes on from the last checkpoint. What
# follows a training (search, evidence, explanations, report) goes on beside the next one, on four
# cores. Trainings and searches resume; a classifier and an evaluation begin again, so a segment
# has to be longer than the longest of those: minutes on a CPU.
#   DATA=../shared bash benchmarks/real_domains_gpu.sh                    # 9 minutes of it
#   SEGMENT=540 IMAGES=4000000 PYTHON=python3 bash benchmarks/real_domains_gpu.sh leaves faces-own
# To try it without a GPU:
#   RESOLUTION=32 SEGMENT=540 IMAGES=320 bash benchmarks/real_domains_gpu.sh digits
set -uo pipefail
cd "$(dirname "$0")/.."
export RESOLUTION=${RESOLUTION:-64} IMAGES=${IMAGES:-400000} BESIDE=${BESIDE-4}
export OPTIONS=${OPTIONS---batch 64 --flips --log-images 20000 --snapshot-images 100000 \
  --checkpoint-images 20000}
timeout --kill-after=20 "${SEGMENT:-540}" \
  bash benchmarks/real_domains.sh ${@:-leaves faces-own retina} && echo done && exit
ended=$?
[ $ended = 124 ] || [ $ended = 137 ] || exit $ended
echo "to be continued: the same command goes on"
