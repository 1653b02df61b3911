"""E-invoices before Peppol's own rules: the sample year's, and those of every case that tests make up."""

import sys
from collections import Counter

import pytest

from arcadia_pipelines.documents.content import Content, content_of
from arcadia_pipelines.documents.xml import render
from arcadia_pipelines.storage import database, documents
from arcadia_pipelines_tests.documents.einvoice.conftest import Judge
from arcadia_pipelines_tests.documents.made import contents, pilot
from arcadia_pipelines_tests.world import World


@pytest.mark.parametrize("of", contents().values(), ids=contents())
def test_the_rules_find_nothing_in_what_an_e_invoice_can_say(judge: Judge, of: Content) -> None:
    assert judge(render(of)) == []


def test_the_rules_find_what_is_wrong(judge: Judge) -> None:
    wrong = render(pilot()).replace(b'PriceAmount currencyID="AUD">50<', b'PriceAmount currencyID="AUD">-50<')
    assert ("fatal", "ibr-027") in judge(wrong)


def test_the_rules_find_nothing_in_the_sample_year(
    judge: Judge, sample_year: World, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [row[0] for row in sample_year.query("select id from billing.tenant_invoices")]
    with database.transaction(database.engine(sample_year.url)) as connection:
        found = [content_of(row) for row in documents.content(connection, ids)]
    e_invoices = {of.number: render(of) for of in found if of.buyer.abn}
    judged = {number: findings for number, document in e_invoices.items() if (findings := judge(document))}
    flags = Counter(flag for findings in judged.values() for flag, _ in findings)
    with capsys.disabled():
        of_them = f"{flags['fatal']} fatal errors, {sum(flags.values()) - flags['fatal']} warnings"
        sys.stdout.write(f"\n{len(e_invoices)} e-invoices of the sample year's {len(found)} invoices: {of_them}\n")
    assert judged == {}
