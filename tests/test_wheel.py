"""What ships: every package is named, and the packs travel in the wheel."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from shutil import copytree

ROOT = Path(__file__).resolve().parent.parent


def test_every_package_of_ours_is_named_in_the_project_file() -> None:
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
                ["packages"])
    found = {path.parent.relative_to(ROOT).as_posix().replace("/", ".")
             for top in ("gateway", "chaos") for path in (ROOT / top).rglob("__init__.py")}
    assert found | {"gateway.packs"} == named


def test_a_wheel_finds_its_packs_where_no_tree_is(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for part in ("gateway", "chaos", "config"):
        copytree(ROOT / part, tree / part)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (tree / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
                    "--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    told = subprocess.run(
        [sys.executable, "-c", "from gateway.config.packs import known; print(known(None))"],
        cwd=tmp_path / "site", capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(tmp_path / "site")})
    assert told.stdout.strip() == "['bars-r4', 'fhir-r4', 'gp-connect-stu3']"
