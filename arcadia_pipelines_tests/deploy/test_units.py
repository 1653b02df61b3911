"""The systemd units of deploy/, as systemd reads them."""

import subprocess
from pathlib import Path

from arcadia_pipelines.settings import PROJECT


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    """The programs that they name are looked for too: here, instead of in /srv/arcadia."""
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("arcadia", "dagster", "dagster-daemon"):
        (programs / name).touch(0o755)
    units = [tmp_path / unit.name for unit in (PROJECT / "deploy").glob("*.service")]
    for unit in units:
        unit.write_text((PROJECT / "deploy" / unit.name).read_text().replace("/srv/arcadia", str(tmp_path)))
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (len(units), checked.returncode, checked.stdout, checked.stderr) == (4, 0, "", "")
