"""Lays what the examples of examples/line/ are compiled against into a folder.

    python -m tests.deploy.line_parts FOLDER

``include/`` gets the headers of ONNX Runtime, and ``Microsoft.ML.OnnxRuntime.dll`` its C# library.
Both come out of an npm package for Unity that has the headers and the C# source. The source is
compiled with Mono, after it has been rewritten in the older C# that Mono knows. With ``dotnet`` one
would take the NuGet package instead, as examples/line/score.csproj does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "com.github.asus4.onnxruntime@0.4.9"
LIBRARY = "Microsoft.ML.OnnxRuntime.dll"
OLDER = {  # what Mono's compiler does not know, and what does the same there
    r"Select\(static ": "Select(",
    r"\(static (?=[a-z(])": "(",
    r"([\w.]+) is null": r"\1 == null",
    r"([\w.]+) is not TensorBase": r"!(\1 is TensorBase)",
    r"^( *)using var ": r"\1var ",
    r": unmanaged\b": ": struct",
    r"DisposableList<OrtValue> (\w+) = new\(": r"var \1 = new DisposableList<OrtValue>(",
    r"\? 1 : throw .*;": "? 1 : 0;",
    r"(\w+)\.Span\[(\w+)\] = (.*);": r"var span = \1.Span; span[\2] = \3;",
    r"dimensions\[0\] = dimensions\[1\] = (.*);": r"dimensions[0] = \1; dimensions[1] = \1;",
}


def main(target: Path) -> None:
    """Fetch the package, and lay headers and library into ``target``."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True)
        (packed,) = folder.glob("*.tgz")
        with tarfile.open(packed) as archive:
            wanted = [each for each in archive if each.name.endswith((".h", ".cs"))]
            archive.extractall(folder, wanted, filter="data")
        headers = next(folder.rglob("onnxruntime_cxx_api.h")).parent
        shutil.copytree(headers, target / "include", dirs_exist_ok=True)
        if shutil.which("mcs"):
            compile_library(folder / "package" / "Runtime", target / LIBRARY)


def compile_library(source: Path, library: Path) -> None:
    """Compile the C# source of ONNX Runtime with Mono."""
    paths = [path for path in sorted(source.rglob("*.cs")) if path.parent.name != "Training"]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for newer, older in OLDER.items():
            text = re.sub(newer, older, text, flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")
    options = ["-d:NETSTANDARD2_0", "-langversion:latest", "-unsafe", "-warn:0"]
    options += ["-target:library", f"-out:{library}"]
    subprocess.run(["mcs", *options, *map(str, paths)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
