"""Whether FOCUS files pass the official validator's rules of version 1.2: `validate.py FILE...`.

Runs in the validator's own environment (`make focus`), imports nothing of ours, downloads nothing. One line per file
with how many rules hold, and each rule that does not; exit code 1 if there is one. The validator skips what no program
can check and what the provider does not have (see CRITERIA), and of a list of allowed values it only asks that one of
them occurs: our own tests check every row. How the files fit together is asked of across.py.

Two faults of validator 2.2.1 are named and not counted:

- It reports a rule that is one of two alternatives, though the other alternative holds and their rule passes:
  InvoiceId must be null (InvoiceId-C-004-C) or must not (-005-C), so no file with that column could pass.
- It takes ASCII for what FOCUS calls valid Unicode (StringHandling-A-001-M), so no tenant could have an umlaut.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import across
import focus_validator
from focus_validator.validator import Validator

CRITERIA = {
    "cost": (
        "ACCOUNT_NAMING_SUPPORTED",
        "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED",
        "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED",
        "SUB_ACCOUNT_SUPPORTED",
        "USAGE_MEASUREMENT_SUPPORTED",
    ),
}
CRITERIA["revenue"] = (*CRITERIA["cost"], "PUBLIC_PRICE_LIST_SUPPORTED", "UNIT_PRICING_SUPPORTED")
"""What the side's provider has, in FOCUS's words: rules about the rest do not apply. The bill shows no prices."""


def main(files):
    # The validator looks for a list of currencies below the working directory.
    os.chdir(Path(focus_validator.__file__).parents[1])
    failed = 0
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for passes, report in processes.map(verdict, files):
            print(report, flush=True)
            failed += not passes
    bites(files[0])
    misfits = across.findings([file for file in files if file.suffix == ".csv"])
    print(*misfits, f"{len(across.CHECKS)} checks across the files, {len(misfits)} findings", sep="\n")
    print(f"{len(files) - failed} of {len(files)} files pass FOCUS 1.2" + (f", {failed} fail" if failed else ""))
    return 1 if failed or misfits else 0


def verdict(file):
    """Whether the file passes, and the lines that say so."""
    results = validate(file)
    failures = {rule: entry for rule, entry in results.by_rule_id.items() if not entry["ok"] and not skipped(entry)}
    excused = excuses(results, failures)
    wrong = failures.keys() - excused.keys()
    held = sum(entry["ok"] and not skipped(entry) for entry in results.by_rule_id.values())
    report = [f"{'FAIL' if wrong else 'pass'}  {file.name:<23} {results.data_row_count:>4} rows, {held} rules hold"]
    for rule in sorted(wrong):
        report.append(f"        {rule}: {failures[rule]['details'].get('message')}")
        report.append(f"        FOCUS: {results.rules[rule].validation_criteria.must_satisfy}")
    report += [f"        not counted: {rule}, {reason}" for rule, reason in sorted(excused.items())]
    return not wrong, "\n".join(report)


def validate(file):
    side = "revenue" if file.name.startswith("revenue") else "cost"
    with contextlib.redirect_stdout(io.StringIO()):
        return Validator(
            data_filename=str(file),
            output_type="console",
            output_destination=None,
            rules_version="1.2",
            focus_dataset="CostAndUsage",
            rules_block_remote_download=True,
            applicability_criteria=",".join(CRITERIA[side]),
        ).validate()


def skipped(entry):
    return bool((entry.get("details") or {}).get("skipped"))


def excuses(results, failures):
    """Which of the failures are the validator's, and why."""
    excused = {}
    for rule in failures:
        if requirement(results, rule).get("CheckFunction") == "FormatString":
            excused[rule] = "ASCII only, where FOCUS says Unicode"
        for other in results.rules:
            either = requirement(results, other)
            holds = either.get("CheckFunction") == "OR" and results.by_rule_id[other]["ok"]
            if holds and rule in {item.get("ModelRuleId") for item in either["Items"]}:
                excused[rule] = f"an alternative in {other}, which holds"
    for rule, entry in failures.items():
        parts = re.search(r"failed child rules: \[(.*)\]", str(entry["details"].get("message")))
        if parts and set(parts[1].split(", ")) <= excused.keys():
            excused[rule] = f"for {parts[1]} alone"
    return excused


def requirement(results, rule):
    return results.rules[rule].validation_criteria.requirement or {}


def bites(file):
    """Raises unless the validator finds what is made wrong in a copy of the file."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file.name)
        text = file.read_text(encoding="utf-8")
        copy.write_text(text.replace(',"AUD",', ',"XYZ",'), encoding="utf-8")
        if validate(copy).by_rule_id["BillingCurrency-C-006-M"]["ok"]:
            raise SystemExit("the validator passes a currency that there is not: it checks nothing")


if __name__ == "__main__":
    sys.exit(main([Path(argument).resolve() for argument in sys.argv[1:]]))
