#!/usr/bin/env bash
# The NumPy engine on a 32-bit Python: Debian's for i386, unpacked into a scratch folder and entered by chroot, so as root.
# Not part of .ci/run, which must pass where there is no Debian; CONTRIBUTING.md says when to run it.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/apt/{lists,cache/archives}/partial "$scratch"/root/{dev,proc,tmp,npdistil}
: > "$scratch/apt/status"
apt=(apt-get -qq -o APT::Architecture=i386 -o APT::Architectures::=i386 -o "Dir::State::lists=$scratch/apt/lists"
     -o "Dir::Cache=$scratch/apt/cache" -o "Dir::State::status=$scratch/apt/status")
"${apt[@]}" update || true  # other lists than the main one may be missing for this architecture
"${apt[@]}" install -y --no-install-recommends --download-only libstdc++6 python3 python3-numpy
for package in "$scratch"/apt/cache/archives/*.deb; do dpkg -x "$package" "$scratch/root"; done
for folder in lib bin sbin; do [ -e "$scratch/root/$folder" ] || ln -s "usr/$folder" "$scratch/root/$folder"; done
pip download -q --no-deps --only-binary :all: --implementation cp --python-version 3.11 --platform manylinux_2_17_i686 \
    --platform manylinux1_i686 --dest "$scratch/wheels" tokenizers safetensors
pip download -q --only-binary :all: --python-version 3.11 --dest "$scratch/wheels" pytest "hypothesis<6.140"  # in Python
for wheel in "$scratch"/wheels/*.whl; do
    python3 -m zipfile -e "$wheel" "$scratch/root/usr/lib/python3/dist-packages"
done
cp -r "$here"/{npdistil,weights,tests} "$scratch/root/npdistil"
touch "$scratch/root/dev/null"  # where pytest reads from
libraries=/usr/lib/i386-linux-gnu
run() {
    LD_LIBRARY_PATH=$libraries/blas:$libraries/lapack PYTHONPATH=/npdistil HOME=/tmp chroot "$scratch/root" \
        /usr/bin/python3 -c 'import os, runpy, sys; os.chdir("/npdistil"); runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)' "$@"
}
run npdistil info
run pytest -q -p no:cacheprovider -k "not compiled" tests/test_{batch,checkpoint,engine,golden,heads,quantize,specification}.py \
    tests/test_{question_answering,text_classification,token_classification,tokenizer}.py
