"""Documents as files: by the command line, and a month's by the job."""

import io
import os
from pathlib import Path

import fsspec
import pypdf
import pytest
from lxml import etree

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.documents import files
from arcadia_pipelines.documents.files import NotWritten
from arcadia_pipelines.pipeline.acts import step_of
from arcadia_pipelines.storage import database
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.documents.test_delivery import SUPPLIER, with_supplier
from arcadia_pipelines_tests.world import World, run

APRIL = BillingMonth.parse("2026-04")
NUMBER = "INV-202604-00001"
BEGINNINGS = {"sold": with_supplier}


@pytest.fixture
def sold(world: World) -> World:
    """A supplier, and the pilot's April, published."""
    return world


def text(document: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages)


def test_an_invoice_is_written_as_a_pdf_by_its_number_or_its_id(sold: World, arcadia: Call, tmp_path: Path) -> None:
    [[invoice]] = sold.query("select id::text from billing.tenant_invoices")
    for name, reference in (("a.pdf", NUMBER), ("b.pdf", invoice)):
        answer = arcadia("document", reference, "--pdf", name)
        assert (answer.code, answer.err, answer.out) == (0, "", f"{NUMBER}, revision 1, in {name}\n")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert "Total including GST 70.64" in text((tmp_path / "a.pdf").read_bytes())
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["a.pdf", "b.pdf"]


def test_an_invoice_is_written_as_an_e_invoice_beside_its_pdf(sold: World, arcadia: Call, tmp_path: Path) -> None:
    sold.tamper("""update billing.tenant_invoices set meta = meta || '{"tenant_abn": "71690944157"}'""")
    answer = arcadia("document", NUMBER, "--xml", "a.xml", "--pdf", "a.pdf")
    assert (answer.code, answer.err, answer.out) == (0, "", f"{NUMBER}, revision 1, in a.pdf and a.xml\n")
    e_invoice = (tmp_path / "a.xml").read_bytes()
    assert etree.fromstring(e_invoice).findtext("{*}LegalMonetaryTotal/{*}PayableAmount") == "70.64"
    assert pypdf.PdfReader(tmp_path / "a.pdf").attachments == {"invoice.xml": [e_invoice]}


def test_where_there_is_no_e_invoice_nothing_is_written(sold: World, arcadia: Call, tmp_path: Path) -> None:
    answer = arcadia("document", NUMBER, "--pdf", "a.pdf", "--xml", "a.xml")
    refused(answer, f"{NUMBER} has no e-invoice", "its buyer pilot has no ABN")
    assert list(tmp_path.iterdir()) == []


def test_an_invoice_is_not_written_nowhere(arcadia: Call) -> None:
    answer = arcadia("document", NUMBER)
    assert (answer.code, answer.out) == (2, "")
    assert "say where to: --pdf FILE, --xml FILE, or both" in answer.err


@pytest.mark.parametrize(
    ("invoice", "file", "says"),
    [
        ("INV-202604-00009", "a.pdf", "no invoice 'INV-202604-00009': give its number"),
        (NUMBER, "nowhere/a.pdf", "cannot write nowhere/a.pdf (No such file or directory)"),
    ],
)
def test_what_cannot_be_written_is_one_line(sold: World, arcadia: Call, invoice: str, file: str, says: str) -> None:
    refused(arcadia("document", invoice, "--pdf", file), says)


def test_without_a_supplier_there_is_no_document(pilots_april: World, arcadia: Call, tmp_path: Path) -> None:
    refused(arcadia("document", NUMBER, "--pdf", "a.pdf"), f"{NUMBER} has no supplier", "arcadia supplier set")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").mkdir()
    with pytest.raises(NotWritten, match="cannot write"):
        files.write(b"%PDF", tmp_path / "a.pdf")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pdf"]


def test_a_written_file_has_the_rights_that_new_files_have(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    files.write(b"%PDF", tmp_path / "a.pdf")
    assert os.stat(tmp_path / "a.pdf").st_mode == os.stat(tmp_path / "other").st_mode


def three_invoices(world: World) -> None:
    """The pilot's, a void one and a draft of April, and another system's number in it."""
    world.done("set_supplier", **SUPPLIER)
    world.pilot()
    for name in ("quoll", "wattle"):
        world.tenant(name)
        world.deployment(name, f"{name}-web", "studio")
    world.done("hold_tenant", tenants=["wattle"])
    world.publish("2026-04")
    [[number]] = world.query("select invoice_number from billing.tenant_invoices where tenant_id = 'quoll'")
    world.done("void_invoice", invoices=[number])


def test_a_months_numbered_invoices_are_written_into_a_folder(world: World, arcadia: Call, tmp_path: Path) -> None:
    three_invoices(world)
    answer = arcadia("documents", "2026-04", "--into", "made/of april")
    assert (answer.code, answer.out) == (0, "2 documents of 2026-04 in made/of april\n")
    found = {file.name: text(file.read_bytes()) for file in (tmp_path / "made" / "of april").iterdir()}
    assert sorted(found) == ["INV-202604-00001.pdf", "INV-202604-00002.pdf"]
    assert ["This document is void." in found[name] for name in sorted(found)] == [False, True]


def test_a_month_goes_into_an_object_store_by_the_job_with_progress(sold: World) -> None:
    config = {"month": "2026-04", "into": "memory://bucket/april"}
    assert run(sold, "documents", run_config={"ops": {step_of("documents"): {"config": config}}}).success
    [name] = fsspec.filesystem("memory").ls("/bucket/april", detail=False)
    assert name == f"/bucket/april/{NUMBER}.pdf"
    assert "70.64" in text(fsspec.filesystem("memory").cat(name))
    with database.snapshot(database.engine(sold.url)) as connection:
        assert list(files.write_month(connection, APRIL, "memory://bucket/april")) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("into", ["nosuch://bucket", "/dev/null/folder"])
def test_a_place_that_cannot_be_written_to_is_one_line(sold: World, arcadia: Call, into: str) -> None:
    refused(arcadia("documents", "2026-04", "--into", into), f"cannot write to {into}")


def test_another_systems_number_names_a_file_in_the_folder_and_no_other(sold: World, tmp_path: Path) -> None:
    sold.tamper("update billing.tenant_invoices set invoice_number = '../../A/1'")
    with database.snapshot(database.engine(sold.url)) as connection:
        list(files.write_month(connection, APRIL, str(tmp_path / "into")))
    assert [file.name for file in tmp_path.rglob("*.pdf")] == ["..%2F..%2FA%2F1.pdf"]
