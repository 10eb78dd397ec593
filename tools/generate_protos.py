"""Generate larvik/proto from protos/, or check that it is fresh.

Run by `make proto` and `make check` with the interpreter of .tools/protoc, where the pinned generator is. The
same sources always give the same bytes.
"""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "protos"
PACKAGE = Path("larvik/proto")
# The plug-ins of this interpreter's environment, not others on the path.
PLUGINS = [
    f"--plugin={name}={Path(sys.executable).with_name(name)}"
    for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
]
WELL_KNOWN = Path(protoc.__file__).with_name("_proto")  # google/protobuf/timestamp.proto and its kin
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
HAS_SERVICE = re.compile(r"^service\s+\w+", re.MULTILINE)


def run_protoc(arguments: list[str], files: list[Path]) -> None:
    """Run the generator on files of protos/, and stop with its own message when it refuses one."""
    plugins = [f"--plugin={name}={Path(sys.executable).with_name(name)}" for name in PLUGINS]
    names = [str(file.relative_to(SOURCES)) for file in files]
    command = ["protoc", f"-I{SOURCES}", f"-I{WELL_KNOWN}", *plugins, *arguments, *names]
    if protoc.main(command) != 0:
        sys.exit("protoc refused the contract: its message is above.")


def generate(target: Path) -> None:
    """Write the Python package of every contract below ``target``, beginning with its folder ``larvik``."""
    files = sorted(SOURCES.rglob("*.proto"))
    if not files:
        sys.exit(f"There is no contract to generate from in {SOURCES}.")
    run_protoc([f"--python_out={target}", f"--mypy_out=quiet:{target}"], files)
    services = [file for file in files if HAS_SERVICE.search(file.read_text())]
    if services:
        run_protoc([f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"], services)
    for folder in sorted({target / PACKAGE, *(target / file.relative_to(SOURCES).parent for file in files)}):
        folder.joinpath("__init__.py").write_text(
            '"""Generated from protos/ by `make proto`: never edited."""\n'
        )


def generated_files(package: Path) -> set[Path]:
    """Return the path of every generated file, relative to the package."""
    return {
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and path.suffix in (".py", ".pyi")
    }


def stale_files(fresh: Path, kept: Path) -> list[Path]:
    """Return the files that differ between two packages, missing and left over ones included."""
    names = generated_files(fresh) | generated_files(kept)
    same, _, _ = filecmp.cmpfiles(fresh, kept, [str(name) for name in names], shallow=False)
    return sorted(names - {Path(name) for name in same})


def replace(fresh: Path, kept: Path) -> None:
    """Bring the kept package to what was generated, touching only what differs."""
    for name in stale_files(fresh, kept):
        source, target = fresh / name, kept / name
        if not source.exists():
            target.unlink()
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def main() -> None:
    """Generate in a folder of its own, then compare with or replace the committed code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail when larvik/proto is stale"
    )
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, kept = Path(folder) / PACKAGE, ROOT / PACKAGE
        stale = stale_files(fresh, kept)
        if check and stale:
            names = "\n".join(f"  {PACKAGE / name}" for name in stale)
            sys.exit(f"Generated code is not what protos/ says; run `make proto` and commit:\n{names}")
        if not check:
            replace(fresh, kept)
    print(f"larvik/proto is fresh ({len(stale)} files changed)." if not check else "larvik/proto is fresh.")


if __name__ == "__main__":
    main()
