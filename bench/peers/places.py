"""Where the bench finds and leaves things. Everything made lies under build/, so that `make clean` removes it."""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
WORK = ROOT / "build" / "peers"
VENV = ROOT / "build" / "peers-venv"
PYTHON = VENV / "bin" / "python"
REFERENCE = ROOT / "build" / "reference-venv"
REFERENCE_PYTHON = REFERENCE / "bin" / "python"
BIN = pathlib.Path(os.environ.get("TESSERA_BIN", ROOT / "build" / "release" / "bin"))  # of the programs that are measured
INSTALLED = WORK / "installed.json"
MODELS = WORK / "models"
LLAMA_SOURCE = WORK / "llama.cpp-src"
LLAMA_BUILD = WORK / "llama.cpp"
LLAMA_BIN = LLAMA_BUILD / "bin"
DEMO = ROOT / "models" / "demo"
