#!/bin/sh
# Every plan of README.md, into experiments/pods/results/NAME; an hour or two on
# two cores. Needs pip install '.[plan]' and no TPU.
set -eu
cd "$(dirname "$0")/../.."
plan() {
  name=$1 topology=$2 lengths=$3
  shift 3
  printf '\n== %s on %s\n' "$name" "$topology"
  lrm plan --config="configs/$name.py" --topology="$topology" \
    --prompt_tokens=256 --response_tokens="$lengths" "$@"
}
for line in \
  'dler_r1_1p5b v5e:4x4 2048,4096,8192' \
  'dler_r1_7b v5p:4x4x4 2048,4096,8192' \
  'drpo_r1_7b v6e:8x8 2048,4096,8192' \
  'siri_qwen3_8b v5p:4x4x4 4096,8192,16384' \
  'dler_r1_32b v5p:4x4x8 2048,4096,8192' \
  'dler_r1_7b_32k v5p:4x4x4 8192,16384,32768'; do
  # shellcheck disable=SC2086 # Three words.
  plan $line --workdir="experiments/pods/results/${line%% *}"
done
# Memory of an update by the length of responses.
for tokens in 2048 8192 32768; do
  plan dler_r1_7b v5p:4x4x4 "$tokens" --sweep=model.remat=full \
    --config.train.max_tokens="$tokens" --config.eval.max_tokens="$tokens" \
    --config.objective.budget.cap="$tokens" \
    --config.train.row_length="$((tokens + 1024))"
done
