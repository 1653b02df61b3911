"""The wheel, installed outside the checkout: it brings all that it needs, and keeps its state where it is used."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest

from arcadia_pipelines import embedded
from arcadia_pipelines.settings import PROJECT

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=PROJECT, check=True)
    [file] = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is installed in; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check", "--target"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, folder, wheel], check=True)
    return folder


def run(site: Path, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`arcadia` as installed, called in a folder by somebody who has set nothing else."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ARCADIA_", "DAGSTER_"))}
    return subprocess.run(
        [sys.executable, str(site / "bin" / "arcadia"), *arguments],
        env={**environment, "PYTHONPATH": str(site), "COLUMNS": "120", **variables},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


def files(folder: Path) -> set[str]:
    """The names of the files in the folder, but for what Python and its tools leave there."""
    names = {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    return {str(name) for name in names if not any(part.startswith((".", "__pycache__")) for part in name.parts)}


def test_it_has_all_that_the_program_reads_and_nothing_else(wheel: Path) -> None:
    """Every file of sql/ and of the package, Dagster's settings; no tests, no caches."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = files(PROJECT / "arcadia_pipelines")
    assert package >= {"cli/main.py", "pipeline/renderer.py", "api/static/dashboard.html"}
    shipped = {"dagster.yaml", "workspace.yaml", *(f"sql/{name}" for name in files(PROJECT / "sql"))}
    assert names == {f"arcadia_pipelines/{name}" for name in package | shipped}


def test_the_demo_works_in_an_empty_folder_and_keeps_its_state_there(site: Path, tmp_path: Path) -> None:
    """The pilot's April is 70.64; its ten runs are in the database under .arcadia/, and nothing is anywhere else."""
    folder = tmp_path / "an empty folder"
    folder.mkdir()
    before = files(site)
    home = folder / ".arcadia"
    try:
        answer = run(site, folder, "demo")
        assert (answer.returncode, answer.stderr) == (0, "")
        assert "70.64" in answer.stdout
        assert "\n  arcadia ui\n" in answer.stdout
        url = embedded.url(home)
        assert url is not None
        with psycopg.connect(url) as connection:
            assert connection.execute("select count(*) from dagster.runs").fetchone() == (10,)
    finally:
        embedded.stop(home)
    assert list(folder.iterdir()) == [home]
    assert f'base_dir: "{home}/dagster"' in (home / "dagster.yaml").read_text()
    assert "working_directory" not in (home / "workspace.yaml").read_text()
    assert files(site) == before
    assert not (site / ".arcadia").exists()


def test_an_installation_without_its_migrations_says_so(site: Path, tmp_path: Path, empty_url: str) -> None:
    """Not that the schema is up to date."""
    broken = shutil.copytree(site, tmp_path / "site")
    for missing in (broken / "arcadia_pipelines" / "sql" / "migrations", broken / "arcadia_pipelines" / "sql"):
        shutil.rmtree(missing)
        answer = run(broken, tmp_path, "db", "migrate", ARCADIA_DATABASE_URL=empty_url)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr.startswith("arcadia: there is no migration in ")
        assert answer.stderr.endswith("/sql/migrations: the installation is incomplete, install it again\n")
