#!/bin/sh
# rounds-pack.sh: pack the second predictions of rounds.dag, on the access point.
#
# A DAG that is submitted again goes on with what is packed.
set -eu
cd "$(dirname "$0")/.."
[ ! -f after/appliance.dag ] || exit 0

appliance pack condor --tasks tasks.json --model merged --shards 2 --budget 2h \
    --image build/arc-appliance-gpu.sif --profile chtc-short \
    --set strategy=induction --set program.learn=false --out after
