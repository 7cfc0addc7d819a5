#!/bin/sh
# Everything that a day with a GPU is for, in nine minutes: benchmarks/gpu/run.sh OUT [--rehearsal]
# OUT gets table.md, log.txt, a file of rows for each part, and records.tar.gz. PYTHON is the interpreter; wheels/ and
# data/ beside this file come from fetch.sh.
set -eu
started=$(date +%s)
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python3}
"$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$work/site" "$here"/wheels/*.whl
export PYTHONPATH="$work/site:$here/../.." PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
if [ -f "$here/data/commit" ]; then SSBENCH_COMMIT=$(cat "$here/data/commit") && export SSBENCH_COMMIT; fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-3}"
{
    "$python" -c 'import sys, torch; print(sys.version, torch.__version__, torch.cuda.is_available())'
    nvidia-smi 2>/dev/null || echo "no GPU"
    echo "commit ${SSBENCH_COMMIT:-unknown}"
} >"$out/log.txt" 2>&1
"$python" "$here/run.py" "$out" "$work" "$started" "$@"
