"""Build hook: compiles src/dragonfly/wire/proto into dragonfly/wire/pb. Nothing generated is committed.

Also a program: `python hatch_build.py` does the same in place (what `make proto` runs).
"""

import sys
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "src"
PROTO = SOURCE / "dragonfly" / "wire" / "proto"
OUTPUT = SOURCE / "dragonfly" / "wire" / "pb"


def compile_protos() -> None:
    """Write messages, stubs and their types for every .proto; raises RuntimeError where protoc refuses one."""
    from grpc_tools import protoc

    OUTPUT.mkdir(exist_ok=True)
    (OUTPUT / "__init__.py").write_text(
        '"""Generated from wire/proto by hatch_build.py; not edited, not committed."""\n'
    )
    bin_folder = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"-I{PROTO}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--python_out={SOURCE}",
        f"--grpc_python_out={SOURCE}",
    ]
    # Types for the type checker. Servicers answer UNIMPLEMENTED for what they leave out, so leaving out is allowed.
    for plugin, options in (("mypy", "quiet"), ("mypy_grpc", "quiet,generate_concrete_servicer_stubs")):
        program = bin_folder / f"protoc-gen-{plugin}"
        if program.exists():
            arguments += [f"--plugin=protoc-gen-{plugin}={program}", f"--{plugin}_out={options}:{SOURCE}"]
    if protoc.main([*arguments, *map(str, sorted(PROTO.rglob("*.proto")))]) != 0:
        raise RuntimeError(f"protoc refused a file below {PROTO}")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program without hatchling
    pass
else:

    class ProtoBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Run before every wheel, sdist and editable install."""

        def initialize(self, version: str, build_data: dict[str, object]) -> None:
            compile_protos()


if __name__ == "__main__":
    compile_protos()
