"""The routes of an invoice as a PDF and as an e-invoice: who gets it, and when it is not sent twice."""

import concurrent.futures
import hashlib
import io
import uuid

import httpx
import psycopg
import pypdf
import pytest
from lxml import etree

from arcadia_pipelines_tests.api.conftest import ADMIN, Serve, tenant
from arcadia_pipelines_tests.world import World, sample_data

FORMATS = pytest.mark.parametrize("ending", ["pdf", "xml"])


def of(world: World, condition: str, ending: str = "pdf") -> str:
    """The path of the first invoice of April like that."""
    query = "select id from billing.tenant_invoices where period_start = '2026-04-01' and"
    return f"/api/v1/invoices/{world.query(f'{query} {condition} order by invoice_number')[0][0]}.{ending}"


def text(answer: httpx.Response) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(answer.content)).pages)


def test_a_tenant_gets_its_own_invoice_as_a_pdf(api: httpx.Client, billed: World) -> None:
    answer = api.get(of(billed, "tenant_id = 'pilot'"), headers=tenant("pilot"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    assert "Total including GST 70.64" in text(answer)
    [[number]] = billed.query(
        "select invoice_number from billing.tenant_invoices where tenant_id = 'pilot' and period_start = '2026-04-01'"
    )
    assert answer.headers["content-disposition"] == f'inline; filename="{number}.pdf"'
    assert answer.headers["cache-control"] == "private, no-cache"


def test_a_tenant_gets_its_own_invoice_as_an_e_invoice_which_the_pdf_has_in_it(
    api: httpx.Client, billed: World
) -> None:
    answer = api.get(of(billed, "tenant_id = 'pilot'", "xml"), headers=tenant("pilot"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/xml")
    [amount] = etree.fromstring(answer.content).findall("{*}LegalMonetaryTotal/{*}PayableAmount")
    assert amount.text == "70.64"
    number = etree.fromstring(answer.content).findtext("{*}ID")
    assert answer.headers["content-disposition"] == f'attachment; filename="{number}.xml"'
    assert answer.headers["cache-control"] == "private, no-cache"
    pdf = api.get(of(billed, "tenant_id = 'pilot'"), headers=tenant("pilot"))
    assert pypdf.PdfReader(io.BytesIO(pdf.content)).attachments == {"invoice.xml": [answer.content]}


@FORMATS
def test_another_tenants_or_no_invoice_is_not_found_and_so_is_a_tenants_draft(
    api: httpx.Client, billed: World, drafted: str, ending: str
) -> None:
    for path, whose in (
        (of(billed, "tenant_id <> 'pilot' and status = 'paid'", ending), "pilot"),
        (of(billed, "status = 'draft'", ending), drafted),
        (f"/api/v1/invoices/{uuid.uuid4()}.{ending}", "pilot"),
    ):
        answer = api.get(path, headers=tenant(whose))
        assert (answer.status_code, answer.json()["detail"]) == (404, "no invoice of this id")
    assert api.get(of(billed, "status = 'draft'"), headers=ADMIN).status_code == 200


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("status = 'draft'", "has no e-invoice: only what is issued has one"),
        ("status = 'void'", "is void, which no e-invoice can say: its PDF does"),
        ("tenant_id = 'yarrabee-surf-club'", "its buyer yarrabee-surf-club has no ABN"),
    ],
)
def test_what_has_no_e_invoice_is_not_found_and_says_why(
    api: httpx.Client, billed: World, condition: str, says: str
) -> None:
    answer = api.get(of(billed, condition, "xml"), headers=ADMIN)
    assert answer.status_code == 404
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(("status", "says"), [("draft", "This is a draft"), ("void", "This document is void.")])
def test_an_admin_sees_what_does_not_count_marked_as_such(
    api: httpx.Client, billed: World, status: str, says: str
) -> None:
    assert says in text(api.get(of(billed, f"status = '{status}'"), headers=ADMIN))


@FORMATS
def test_what_the_reader_has_is_not_sent_again(api: httpx.Client, billed: World, ending: str) -> None:
    path = of(billed, "tenant_id = 'pilot'", ending)
    first = api.get(path, headers=ADMIN)
    again = api.get(path, headers=ADMIN | {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    other = api.get(path, headers=ADMIN | {"If-None-Match": '"another"'})
    assert (other.status_code, other.content) == (200, first.content)


@FORMATS
def test_without_a_token_or_with_a_parameter_there_is_none(api: httpx.Client, billed: World, ending: str) -> None:
    path = of(billed, "tenant_id = 'pilot'", ending)
    assert api.get(path).status_code == 401
    assert api.get(path, params={"page": "1"}, headers=ADMIN).status_code == 422
    assert api.get(f"/api/v1/invoices/nobody.{ending}", headers=ADMIN).status_code == 422


def test_a_month_without_a_supplier_says_what_to_do(pilots_april: World, serve: Serve) -> None:
    answer = serve(pilots_april.url).get(of(pilots_april, "true"), headers=ADMIN)
    assert answer.status_code == 404
    assert "has no supplier: enter who sells from 2026-04 on with `arcadia supplier set`" in answer.json()["detail"]


def test_many_at_once_are_all_made_and_meanwhile_the_api_answers(api: httpx.Client, billed: World) -> None:
    path = of(billed, "tenant_id = 'pilot'")
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        made = [pool.submit(api.get, path, headers=ADMIN) for _ in range(16)]
        assert api.get("/health").status_code == 200
    assert {(one.result().status_code, one.result().headers["etag"]) for one in made} == {
        (200, api.head(path, headers=ADMIN).headers["etag"])
    }


def invoice_the_samples_april(world: World) -> None:
    sample_data(world)
    world.publish("2026-04")


@pytest.fixture
def delivering(world: World) -> World:
    """The sample's April, invoiced, in a database of its own."""
    return world


BEGINNINGS = {"delivering": invoice_the_samples_april}


def delivered(world: World) -> list[tuple[object, ...]]:
    return world.query(
        "select tenant_id, operator, reason from billing.invoice_events where event = 'delivered' order by id"
    )


@pytest.mark.long
def test_a_tenants_own_download_delivers_its_invoice_only_if_so_configured(delivering: World, serve: Serve) -> None:
    path, other = of(delivering, "tenant_id = 'pilot'"), of(delivering, "tenant_id = 'wattle-press'")
    assert serve(delivering.url).get(path, headers=tenant("pilot")).status_code == 200
    assert delivered(delivering) == []
    configured = serve(delivering.url, deliver_on_download=True)
    assert configured.get(path, headers=ADMIN).status_code == 200
    assert configured.head(path, headers=tenant("pilot")).status_code == 200
    assert configured.get(other, headers=tenant("pilot")).status_code == 404
    assert delivered(delivering) == []
    answer = configured.get(path, headers=tenant("pilot"))
    assert delivered(delivering) == [("pilot", "tenant pilot", "downloaded through the API")]
    again = configured.get(path, headers=tenant("pilot") | {"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, len(delivered(delivering))) == (304, 1)
    [[sha256, format_]] = delivering.query("select sha256, format from billing.documents")
    assert (sha256, format_) == (hashlib.sha256(answer.content).hexdigest(), "pdf")
    delivering.query(
        "insert into cloud.usage_records select gen_random_uuid(), deployment_id, resource_kind, 5000,"
        " '2026-04-10', '2026-04-10' from cloud.usage_records u join cloud.cloud_deployments d"
        " on d.id = u.deployment_id where d.tenant_id = 'pilot' limit 1"
    )
    assert delivering.publish("2026-04").actions["frozen"] == 1
    assert [what for what in delivering.disproved() if "late" not in what[1]] == []


def test_what_the_reader_has_from_before_is_sent_again_if_that_delivers_it(delivering: World, serve: Serve) -> None:
    path = of(delivering, "tenant_id = 'pilot'")
    tag = serve(delivering.url).get(path, headers=tenant("pilot")).headers["etag"]
    configured = serve(delivering.url, deliver_on_download=True)
    assert configured.get(path, headers=tenant("pilot") | {"If-None-Match": tag}).status_code == 200
    assert len(delivered(delivering)) == 1


@FORMATS
def test_a_delivered_invoice_that_is_voided_is_downloaded_as_its_adjustment_note(
    delivering: World, serve: Serve, ending: str
) -> None:
    path, configured = of(delivering, "tenant_id = 'pilot'", ending), serve(delivering.url, deliver_on_download=True)
    configured.get(path, headers=tenant("pilot"))
    [[number]] = delivering.query("select invoice_number from billing.tenant_invoices where tenant_id = 'pilot'")
    delivering.done("void_invoice", invoices=[number])
    seen = configured.get(path, headers=ADMIN)
    assert (len(delivered(delivering)), seen.status_code) == (1, 200)
    for _ in range(2):
        answer = configured.get(path, headers=tenant("pilot"))
        assert (answer.status_code, answer.content) == (200, seen.content)
    assert f'filename="{number}-ADJ.{ending}"' in answer.headers["content-disposition"]
    assert len(delivered(delivering)) == 2
    assert delivering.query("select state, format, sha256 from billing.documents where state = 'void'") == [
        ("void", ending, hashlib.sha256(answer.content).hexdigest())
    ]
    assert serve(delivering.url).get(path, headers=tenant("wattle-press")).status_code == 404


@pytest.mark.parametrize(
    ("role", "whose", "revision", "is_note", "answer"),
    [
        ("tenant", "pilot", 1, False, True),
        ("tenant", "pilot", 1, True, False),
        ("tenant", "pilot", 2, False, False),
        ("tenant", "wattle-press", 1, False, False),
        ("tenant", "", 1, False, "only a tenant"),
        ("platform_admin", "pilot", 1, False, "only a tenant"),
        ("", "", 1, False, "only a tenant"),
    ],
)
def test_the_apis_role_may_note_a_tenants_own_download_and_nothing_more(
    delivering: World, role: str, whose: str, revision: int, is_note: bool, answer: bool | str
) -> None:
    [[invoice]] = delivering.query("select id from billing.tenant_invoices where tenant_id = 'pilot'")
    with psycopg.connect(delivering.url) as connection:
        connection.execute("set role arcadia_api")
        connection.execute(
            "select set_config('arcadia.role', %s, false), set_config('arcadia.tenant_id', %s, false)", (role, whose)
        )
        query = "select billing.deliver_download(%s, %s, %s, 'pdf', %s, 'test')"
        parameters = (invoice, revision, is_note, "a" * 64)
        if isinstance(answer, str):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=answer):
                connection.execute(query, parameters)
        else:
            assert connection.execute(query, parameters).fetchall() == [(answer,)]
    assert len(delivered(delivering)) == (1 if answer is True else 0)
