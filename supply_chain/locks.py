"""What the locks bring: `locks.py audit LOCK...` asks for advisories, `locks.py sbom LOCK FILE` writes an SBOM.

`locks.py rest LOCK MORE` leaves in the second lock only what it has beyond the first (`make lock`).

The first two run in an environment of their own (`make audit-deps`, `make sbom`; supply_chain/tools.lock). Nothing of
ours is imported. They read every pin, also those of other Pythons and platforms, whose markers pip-audit would pass
over in silence.

`audit` ends with 0 only if the service answered for every pin and knows no advisory; with 1 if it knows some; with 2
and one line if it could not be asked, or has nothing about a package that is known to be bad: silence is no clean bill.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PIN = re.compile(r"([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\*]+)(?: ;[^\\]*)?(?: \\)?", re.IGNORECASE)
REST = re.compile(r"\s*(#.*|--hash=\S+(?: \\)?)?")
OSV = "https://api.osv.dev/v1/query"
KNOWN_BAD = ("jinja2", "2.10")
"""Has had advisories since 2019 (CVE-2019-10906): a service that knows none of them is no service."""


class Unknown(Exception):
    """Nothing can be said; the message is one line that says why."""


def pins(lock: str, name: str) -> set[tuple[str, str]]:
    """Package and version of every pin in a lock's text, whatever its marker. Raises Unknown for any other line."""
    found = set()
    for number, line in enumerate(lock.splitlines(), 1):
        if pin := PIN.fullmatch(line):
            found.add((re.sub(r"[-_.]+", "-", pin[1]).lower(), pin[2]))
        elif not REST.fullmatch(line):
            raise Unknown(f"{name}, line {number} pins no version: {line.strip()[:80]}; renew it with make lock")
    if not found:
        raise Unknown(f"{name} pins nothing; renew it with make lock")
    return found


def rest(lock: str, more: str) -> str:
    """What the second lock's text has beyond the first's: its pins that are not there, each with its hashes."""
    there = {line for line in lock.splitlines() if PIN.fullmatch(line)}
    kept, keeps = [], True
    for line in more.splitlines(keepends=True):
        if PIN.fullmatch(line.rstrip("\n")):
            keeps = line.rstrip("\n") not in there
        if keeps:
            kept.append(line)
    return "".join(kept)


def rounds(wanted: set[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """The pins, split so that no package is twice in a round: pip-audit refuses a list with two versions of one."""
    split: list[list[tuple[str, str]]] = []
    for pin in sorted(wanted):
        free = next((each for each in split if pin[0] != each[-1][0]), None)
        if free is None:
            split.append([pin])
        else:
            free.append(pin)
    return split


def advisories(report: dict, wanted: set[tuple[str, str]]) -> list[str]:
    """A line for each advisory in pip-audit's report. Raises Unknown if it leaves out a pin that was asked for."""
    answered = {(each["name"], each["version"]): each["vulns"] for each in report["dependencies"] if "vulns" in each}
    if left_out := wanted - answered.keys():
        example = " ".join(min(left_out))
        raise Unknown(f"pip-audit said nothing about {len(left_out)} of {len(wanted)} packages, {example} for one")
    return [
        f"{name} {version}: {', '.join([vuln['id'], *sorted(vuln['aliases'])])};"
        f" mended in {', '.join(vuln['fix_versions']) or 'no version yet'}"
        for (name, version), vulns in sorted(answered.items())
        for vuln in vulns
    ]


def ask(wanted: set[tuple[str, str]], osv: str) -> list[str]:
    """What pip-audit finds for the pins. Raises Unknown if the service gives it no answer."""
    found = []
    for pinned in rounds(wanted):
        with tempfile.TemporaryDirectory() as work:
            listed = Path(work) / "pins.txt"
            listed.write_text("".join(f"{name}=={version}\n" for name, version in pinned))
            options = ["--no-deps", "--disable-pip", "--cache-dir", work, "--progress-spinner", "off"]
            options += ["--vulnerability-service", "osv", "--osv-url", osv, "--format", "json", "--desc", "off"]
            command = [sys.executable, "-m", "pip_audit", *options, "--aliases", "on", "--requirement", str(listed)]
            ran = subprocess.run(command, check=False, capture_output=True, text=True)
        try:
            report = json.loads(ran.stdout)
        except ValueError:
            why = (ran.stderr.strip().splitlines() or ["it does not say why"])[-1]
            raise Unknown(f"pip-audit got no answer from {osv}: {why[:400]}") from None
        found += advisories(report, set(pinned))
    return found


def audit(locks: list[Path], osv: str) -> int:
    """Print the advisories against what the locks pin."""
    brought = {lock: pins(lock.read_text(), str(lock)) for lock in locks}
    wanted = set().union(*brought.values())
    of_all = f"{len(wanted)} pinned packages in {len(locks)} locks"
    try:
        if not ask({KNOWN_BAD}, osv):
            bad = " ".join(KNOWN_BAD)
            raise Unknown(f"{osv} answers, but knows no advisory against {bad}, which has some: it has no advisories")
        found = ask(wanted, osv)
    except Unknown as error:
        raise Unknown(f"nothing is known about {of_all}: {error}") from None
    for line in found:
        where = ", ".join(str(lock) for lock, brings in brought.items() if tuple(line.split(":")[0].split()) in brings)
        print(f"{line}; in {where}")
    print(f"{of_all}, known advisories: {len(found) or 'none'} ({osv}; it is not asked what wheels carry inside)")
    return 1 if found else 0


def plain(bom: dict) -> dict:
    """The SBOM without what depends on where it was made: index addresses, and the lock's lines as they are spelled."""
    for component in bom["components"]:
        del component["description"]
        component["bom-ref"] = component["purl"]
        for reference in component["externalReferences"]:
            reference |= {"url": component["purl"], "comment": "the files of this version that the lock allows"}
    for tool in bom["metadata"]["tools"]["components"]:
        tool.pop("externalReferences", None)
    del bom["dependencies"]  # has every package and says that none needs another, which is not so
    return bom


def unlisted(bom: dict, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pins that the SBOM lacks, or has without a hash, and the components that are no pin."""
    listed = {
        (component["name"], component["version"])
        for component in bom["components"]
        if any(reference.get("hashes") for reference in component["externalReferences"])
    }
    return listed ^ wanted


def sbom(lock: Path, file: Path) -> int:
    """Write what the lock pins as CycloneDX 1.6 in JSON: the same lock gives the same bytes."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    wanted = pins(lock.read_text(), str(lock))
    options = ["--pyproject", "pyproject.toml", "--spec-version", "1.6", "--short-PURLs", "--output-reproducible"]
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", *options, "--no-validate"]
    ran = subprocess.run([*command, str(lock)], check=False, capture_output=True, text=True)
    if ran.returncode:
        raise Unknown(f"cyclonedx-py failed: {(ran.stderr.strip().splitlines() or ['it does not say why'])[-1][:400]}")
    bom = plain(json.loads(ran.stdout))
    text = json.dumps(bom, indent=1, sort_keys=True) + "\n"
    if wrong := unlisted(bom, wanted):
        raise Unknown(f"{len(wrong)} packages are not both in {lock} and, with hashes, in the SBOM: {min(wrong)}")
    if invalid := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise Unknown(f"the SBOM is no valid CycloneDX 1.6: {str(invalid)[:400]}")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    print(f"{file}: {len(wanted)} packages of {lock}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    audits = commands.add_parser("audit")
    audits.add_argument("locks", nargs="+", type=Path)
    audits.add_argument("--osv", default=OSV)
    writes = commands.add_parser("sbom")
    writes.add_argument("lock", type=Path)
    writes.add_argument("file", type=Path)
    leaves = commands.add_parser("rest")
    leaves.add_argument("lock", type=Path)
    leaves.add_argument("more", type=Path)
    asked = parser.parse_args()
    if asked.command == "rest":
        asked.more.write_text(rest(asked.lock.read_text(), asked.more.read_text()))
        return 0
    try:
        return audit(asked.locks, asked.osv) if asked.command == "audit" else sbom(asked.lock, asked.file)
    except (Unknown, OSError) as error:
        print(f"{asked.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
