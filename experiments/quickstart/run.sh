#!/bin/sh
# The runs behind README.md, one after the other. Each resumes if repeated.
#   experiments/quickstart/run.sh [RUNS_DIR]
set -eu
cd "$(dirname "$0")/../.."
runs=${1:-runs/quickstart_seeds}

for seed in 0 1 2; do
  lrm train --config=configs/quickstart.py --config.seed=$seed \
    --workdir="$runs/dler_seed$seed"
done
for seed in 0 1 2; do
  # The cap of the evaluation, and about as many sampled tokens as DLER.
  lrm train --config=configs/tiny/grpo.py --config.seed=$seed \
    --config.objective.budget.cap=384 --config.train.max_tokens=384 \
    --config.train.row_length=432 --config.train.steps=75 \
    --config.train.token_budget=0 --workdir="$runs/grpo_seed$seed"
done
python experiments/quickstart/table.py "$runs"
