"""dfget on a directory of an HTTP origin, through a daemon."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_index import STYLES


@pytest.mark.parametrize("style", STYLES)
async def test_a_name_that_is_unfit_for_a_file_is_told_and_the_others_are_brought(tmp_path: Path, style: str) -> None:
    """Attacks 19 and 22."""
    output = tmp_path / "out"
    async with LocalCluster(tmp_path, seed_peers=0, peers=1) as cluster:
        with Origin(index=style) as origin:
            for name in ("good", "sub/good", "a\\b", "..\\b", "a\nb", "a\x1bb"):
                origin.put(f"/dir/{name}", b"content")
            command = [
                sys.executable,
                "-m",
                "dragonfly.cli.dfget",
                "-r",
                "--json",
                origin.url("/dir/"),
                "-O",
                str(output),
            ]
            process = await asyncio.create_subprocess_exec(
                *command, "-e", str(cluster.peers[0].socket), stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            told, errors = await process.communicate()
    result = json.loads(told)
    assert process.returncode == 1
    assert (result["files"], result["files_missing"], len(result["failures"])) == (2, 4, 4)
    assert errors.count(b"a name that is not fit for a file\n") == 4
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()) == ["good", "sub/good"]
