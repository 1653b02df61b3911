#!/usr/bin/env bash
# The steps of the Containerfile, where there is no container engine: COPY and RUN, in a folder that is removed afterwards.
#     deploy/steps.sh            with python3, or PYTHON=python3.12 deploy/steps.sh
set -euo pipefail
cd "$(dirname "$0")/.."
image=$(mktemp -d)
trap 'rm -rf "$image"' EXIT
mkdir "$image/bin" && ln -s "$(command -v "${PYTHON:-python3}")" "$image/bin/python"
grep -E '^(COPY|RUN) ' deploy/Containerfile | while read -r step rest; do
    echo "$step $rest"
    case $step in
        COPY) git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$image" ;;
        RUN) (cd "$image" && PATH="$image/bin:$PATH" sh -c "$rest") ;;
    esac
done
