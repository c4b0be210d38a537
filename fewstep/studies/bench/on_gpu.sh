#!/usr/bin/env bash
# All numbers of docs/performance.md that need a GPU, in two parts of under ten minutes each:
#   benchmarks/on_gpu.sh steps DIR      tests, teacher and ADD step against the plain one, profile
#   benchmarks/on_gpu.sh more DIR       sampling, batch sizes, single levers
# Compiled code stays in data/cache/compiled, so that the second part begins warm.
# A trial on a CPU: DEVICE=cpu PRESET=tiny BATCH=4 SIZES="2 4" ROUNDS=2 benchmarks/on_gpu.sh steps /tmp/out
set -uo pipefail
cd "$(dirname "$0")/.."
if [ $# -ne 2 ]; then
  echo "error: benchmarks/on_gpu.sh steps|more DIR" >&2
  exit 2
fi
part=$1 out=$2 failed=""
python=${PYTHON:-python}
device=${DEVICE:-cuda} preset=${PRESET:-full} batch=${BATCH:-128} rounds=${ROUNDS:-6}
sizes=${SIZES:-32 128 512}
mkdir -p "$out"
export PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$PWD/data/cache/compiled}
common=(--preset "$preset" --device "$device" --rounds "$rounds")

# What fails or takes too long leaves the others their time.
try() {
  local seconds=$1 name=$2
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" 2>&1 | tee "$out/$name.log" || failed="$failed $name"
}

bench() {
  local seconds=$1 name=$2 module=$3
  shift 3
  try "$seconds" "$name" "$python" -m "benchmarks.$module" "${common[@]}" --json "$out/$name.json" "$@"
}

case $part in
  steps)
    if [ "$device" = cuda ]; then try 150 tests "$python" -m pytest -q tests/test_cuda.py; fi
    bench 200 teacher bench_train --phase teacher --batch_size "$batch"
    bench 200 add bench_train --phase add --batch_size "$batch" --steps 2
    ;;
  more)
    bench 120 profile bench_train --batch_size "$batch" --profile
    bench 150 sampling bench_sample --batch_size "$batch" --nfe_list 1 --sweep $sizes
    bench 120 sweep bench_train --phase teacher --sweep $sizes
    bench 180 levers bench_train --phase teacher --batch_size "$batch" --lever compile=off \
      --lever attention=explicit --lever channels_last=off --lever updates=foreach
    ;;
  *)
    echo "error: $part: steps or more" >&2
    exit 2
    ;;
esac
if [ -n "$failed" ]; then
  echo "failed or ran out of time:$failed" >&2
  exit 1
fi
