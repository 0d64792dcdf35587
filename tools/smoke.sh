#!/usr/bin/env bash
# Is the installed package complete? Expects its `ckptool` and `python` first on PATH, and the fixtures' folder.
set -euo pipefail
fixtures=$1

ckptool --version
ckptool --help >/dev/null
ckptool latest "$fixtures/tutorial-w1-w2"
ckptool ls "$fixtures/tutorial-w1-w2"
python - <<'PYTHON'
import importlib.metadata

package = [path for path in importlib.metadata.files("ckptool") or () if path.parts[0] == "ckptool"]
for suffix in (".py", ".proto", ".pyi", "py.typed"):
    count = sum(str(path).endswith(suffix) for path in package)
    print(f"{count} files *{suffix}")
    if count == 0:
        raise SystemExit(f"the package holds no *{suffix}")
PYTHON
