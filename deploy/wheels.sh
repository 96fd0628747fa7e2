#!/usr/bin/env bash
# Everything that an installation without a network needs, in one folder (default: wheels/).
#   deploy/wheels.sh [FOLDER]                      on a machine with a network, same system and Python
#   python3 -m venv /opt/wardround                 on the machine without one
#   /opt/wardround/bin/pip install --no-index --find-links FOLDER wardround   (at the server
#                                                  'wardround[server]')
# The versions are those of constraints.txt; a list of SHA-256 digests lies beside the wheels.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
folder="${1:-$root/wheels}"
mkdir -p "$folder"
rm -rf -- "$root/build/lib"  # an earlier version's modules would go into the wheel
"${PYTHON:-python3}" -m pip wheel --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" --wheel-dir "$folder" "$root[server,serve]"
(cd "$folder" && sha256sum -- *.whl > SHA256SUMS)
echo "$(find "$folder" -name '*.whl' | wc -l) wheels in $folder; check them there with: sha256sum -c SHA256SUMS"
