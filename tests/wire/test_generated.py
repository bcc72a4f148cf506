"""The generated code is what proto/ makes: `make proto` was run after every change."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = "cactus_core/wire/v1/speculation.proto"


def test_generated_code_has_not_drifted(tmp_path):
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-Iproto", *outputs, SOURCE], cwd=ROOT, check=True)
    made = {path.name: path.read_text("utf8") for path in (tmp_path / "cactus_core/wire/v1").iterdir()}
    kept = {path.name: path.read_text("utf8") for path in (ROOT / "cactus_core/wire/v1").glob("*_pb2*")}
    assert made == kept
