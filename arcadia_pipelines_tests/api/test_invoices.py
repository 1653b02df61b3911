"""What is served: the list and its pages, an invoice, its history, the sheet, and quotes."""

import csv
import io
import json
import uuid
from typing import Any

import httpx
import pytest

from arcadia_pipelines.api import invoice_schemas
from arcadia_pipelines_tests.api.conftest import ADMIN, Serve, tenant
from arcadia_pipelines_tests.world import World

PILOT_QUOTE = {
    "plan": "studio",
    "addons": ["storage_50gb"],
    "usage": {"droplet_hours": 2160},
    "month": "2026-04",
}


def pages(client: httpx.Client, headers: dict[str, str], **parameters: Any) -> list[list[dict[str, Any]]]:
    """Every page of the list, to the end."""
    found: list[list[dict[str, Any]]] = []
    while True:
        answer = client.get("/api/v1/invoices", headers=headers, params=parameters).raise_for_status()
        page = invoice_schemas.InvoicePage.model_validate_json(answer.text)
        found.append(answer.json()["items"])
        if page.next_cursor is None:
            return found
        parameters["cursor"] = page.next_cursor


@pytest.mark.parametrize("limit", [1, 4, 200])
def test_pages_are_the_whole_list_newest_first_and_no_invoice_twice(
    api: httpx.Client, billed: World, limit: int
) -> None:
    expected = billed.query("select id::text from billing.tenant_invoices order by period_start desc, id desc")
    found = pages(api, ADMIN, limit=limit)
    assert [(invoice["id"],) for page in found for invoice in page] == expected
    assert all(len(page) == limit for page in found[:-1])
    assert len(found[-1]) >= 1


@pytest.mark.parametrize(
    ("filters", "condition"),
    [
        ({"period": "2026-04"}, "period_start = '2026-04-01'"),
        ({"status": "issued"}, "status = 'issued'"),
        ({"tenant_id": "pilot"}, "tenant_id = 'pilot'"),
        ({"status": "void", "period": "2026-04"}, "status = 'void' and period_start = '2026-04-01'"),
        ({"tenant_id": "pilot", "status": "issued"}, "tenant_id = 'pilot' and status = 'issued'"),
        ({"invoice_number": "INV-202604-00001"}, "invoice_number = 'INV-202604-00001'"),
        ({"invoice_number": "INV-202604-00001", "period": "2026-05"}, "false"),
        ({"period": "2019-01"}, "false"),
        ({"tenant_id": "nobody"}, "false"),
    ],
)
def test_filters_choose_what_they_say_over_all_pages(
    api: httpx.Client, billed: World, filters: dict[str, str], condition: str
) -> None:
    expected = billed.query(
        f"select id::text from billing.tenant_invoices where {condition} order by period_start desc, id desc"
    )
    assert [(one["id"],) for page in pages(api, ADMIN, limit=3, **filters) for one in page] == expected
    sheet = api.get("/api/v1/invoices.csv", headers=ADMIN, params=filters).text
    assert [(row["id"],) for row in csv.DictReader(io.StringIO(sheet.removeprefix("\ufeff")))] == expected


def test_a_number_finds_a_tenants_own_invoice_and_nobody_elses(api: httpx.Client, billed: World) -> None:
    query = "select min(invoice_number) from billing.tenant_invoices where status = 'issued' and tenant_id {} 'pilot'"
    [[own]], [[other]] = (billed.query(query.format(equals)) for equals in ("=", "<>"))
    for number, found in ((own, [own]), (other, [])):
        page = api.get("/api/v1/invoices", headers=tenant("pilot"), params={"invoice_number": number}).json()
        assert [one["invoice_number"] for one in page["items"]] == found


def test_the_pilots_april_is_served_as_it_is_billed(api: httpx.Client, billed: World) -> None:
    """50.00 + 7.50 + 672 h x 1 c = 64.22, GST 6.42, total 70.64; cents as integers, quantities as strings."""
    [listed] = api.get("/api/v1/invoices?period=2026-04", headers=tenant("pilot")).json()["items"]
    answer = api.get(f"/api/v1/invoices/{listed['id']}", headers=tenant("pilot"))
    document = answer.json()
    invoice_schemas.InvoiceWithLines.model_validate_json(answer.text)
    lines = document.pop("lines")
    assert {name: document[name] for name in invoice_schemas.LISTED} | {
        "tenant_name": document["meta"]["tenant_name"]
    } == listed
    assert (document["subtotal_cents"], document["tax_cents"], document["total_cents"]) == (6422, 642, 7064)
    assert (document["period"], document["period_start"], document["status"]) == ("2026-04", "2026-04-01", "issued")
    assert [(line["line_no"], line["description"], line["amount_cents"]) for line in lines] == [
        (1, "Plan: studio", 5000),
        (2, "Addon: storage_50gb", 750),
        (3, "Overage: droplet_hours", 672),
        (4, "GST 10%", 642),
    ]
    assert (lines[2]["qty"], lines[2]["unit_price_cents"], lines[2]["unit"]) == ("672.000000", "1.00000000", "hour")
    assert lines[2]["meta"]["used"] == "2160.000000"


@pytest.mark.usefixtures("pilots_april")
def test_a_document_is_its_rows_json_whatever_the_text_is(serve: Serve, world: World) -> None:
    """Quotes, line breaks and nulls; a server that writes dates the German way: row_to_json() says the same."""
    odd = """E'a "b" \\\\c {d},\\n\\te\\u00fc\\u2028'"""
    world.tamper(
        f"update billing.tenant_invoices set tenant_id = {odd},"
        f" meta = jsonb_build_object({odd}, {odd}, 'tenant_name', {odd});"
        f"update billing.tenant_invoice_lines set description = {odd}, deployment_name = {odd}, resource_kind = {odd},"
        f" unit = {odd}, meta = jsonb_build_object({odd}, {odd}) where line_no = 1;"
        "do $$ begin execute format('alter database %I set datestyle = german', current_database()); end $$"
    )
    for change in (
        "status = 'draft', invoice_number = null, issued_at = null",
        f"status = 'paid', invoice_number = {odd}, issued_at = '2026-05-01 03:00:00.25+10', paid_at = now(),"
        f" finance_invoice_id = {odd}, pushed_to_finance_at = now()",
    ):
        world.tamper(f"update billing.tenant_invoices set {change}")
        [(invoice,)] = world.query(
            "select row_to_json(i) from (select id, invoice_number, tenant_id,"
            " to_char(period_start, 'YYYY-MM') as period, period_start, period_end,"
            " currency, subtotal_cents, tax_cents, total_cents, status, issued_at, paid_at,"
            " finance_invoice_id, pushed_to_finance_at, delivered_at, due_on, updated_at, usage_cutoff, revision,"
            " content_sha256, meta"
            " from billing.tenant_invoices) i"
        )
        lines = world.query(
            "select row_to_json(l) from (select line_no, deployment_id, deployment_name, kind, resource_kind,"
            " description, qty::text as qty, unit, unit_price_cents::text as unit_price_cents,"
            " price_per::text as price_per, amount_cents, meta"
            " from billing.tenant_invoice_lines order by line_no) l"
        )
        client = serve(world.url)
        listed = client.get("/api/v1/invoices", headers=ADMIN)
        invoice_schemas.InvoicePage.model_validate_json(listed.text)
        assert listed.json()["items"] == [
            {name: invoice[name] for name in invoice_schemas.LISTED} | {"tenant_name": invoice["meta"]["tenant_name"]}
        ]
        found = client.get(f"/api/v1/invoices/{invoice['id']}", headers=ADMIN).json()
        assert found == invoice | {"lines": [line for (line,) in lines]}
        assert list(found) == [*invoice, "lines"]


@pytest.mark.usefixtures("pilots_april")
def test_an_unchanged_invoice_is_not_sent_twice_and_a_changed_one_is(serve: Serve, world: World) -> None:
    """ETag: 304 while it stands; a revision and a payment each make a new one."""
    client = serve(world.url)
    [invoice_id] = world.query("select id from billing.tenant_invoices")[0]
    path, tags = f"/api/v1/invoices/{invoice_id}", list[str]()

    def ask(condition: str | None = None) -> httpx.Response:
        return client.get(path, headers=tenant("pilot") | ({"If-None-Match": condition} if condition else {}))

    for change in (None, "late usage", "update billing.tenant_invoices set status = 'paid', paid_at = now()"):
        if change == "late usage":
            world.use("web", "droplet_hours", 100)
            world.publish("2026-04")
        elif change:
            world.query(change)
        assert [ask(tag).status_code for tag in tags] == [200] * len(tags)
        tags.append(ask().headers["etag"])
        unchanged = ask(f'"other", {tags[-1]}')
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", tags[-1])
        assert ask("*").status_code == 304
    assert len(set(tags)) == 3
    assert ask().headers["cache-control"] == "private, no-cache"
    stranger = client.get(path, headers=tenant("nova") | {"If-None-Match": tags[-1]})
    assert stranger.status_code == 404


@pytest.mark.usefixtures("pilots_april")
def test_the_history_has_each_replaced_revision_whole(serve: Serve, world: World) -> None:
    """100 h more at 1 c: revision 2 of 71.74, and revision 1 of 70.64 in its snapshot."""
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    [invoice_id] = world.query("select id from billing.tenant_invoices")[0]
    answer = serve(world.url).get(f"/api/v1/invoices/{invoice_id}/events", headers=ADMIN)
    history = invoice_schemas.InvoiceEvents.model_validate_json(answer.text).items
    assert [(event.event, event.revision, event.total_cents) for event in history] == [
        ("issued", 1, 7064),
        ("reissued", 2, 7174),
    ]
    assert history[1].snapshot is not None
    assert history[1].snapshot["invoice"]["total_cents"] == 7064
    assert len(history[1].snapshot["lines"]) == 4


def test_the_sheet_has_amounts_in_dollars_and_no_formula(serve: Serve, world: World) -> None:
    """A tenant may call itself what it likes: a spreadsheet must not run it. A negative amount stays a number."""
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"]  # noqa: RUF001
    names += ["Reef Labs;=1+2", "Reef Labs\t=1+2", 'Smith, "Jo"\n& co', "Ünï"]
    world.query(
        "insert into billing.tenant_invoices (tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
        " total_cents, issued_at, invoice_number, content_sha256, usage_cutoff, run_id, meta)"
        " select '=t' || n, '2026-04-01', '2026-05-01', -1234567, -5, -1234572, '2026-05-01 03:00+00', '@' || n,"
        "        repeat('0', 64), now(), '', jsonb_build_object('tenant_name', name)"
        " from unnest(%s::text[]) with ordinality as x (name, n)",
        names,
    )
    answer = serve(world.url).get("/api/v1/invoices.csv", headers=ADMIN)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    harmless = {f"'{name}" for name in names[:8]} - {"'\t=1", "'\r=1"} | {"'\t'=1", "'\r'=1"}
    assert {row["tenant_name"] for row in rows} == harmless | {"Reef Labs;'=1+2", "Reef Labs\t'=1+2"} | set(names[10:])
    text = answer.content.decode("utf-8-sig")
    assert text.startswith("invoice_number,tenant_id,tenant_name,period,status,currency,subtotal,tax,total,issued_at")
    assert ',"Reef Labs;\'=1+2","2026-04","issued","AUD",-12345.67,-0.05,-12345.72,2026-05-01 03:00:00,,1,"' in text
    assert {row["tenant_id"][:3] for row in rows} == {"'=t"}
    assert {row["invoice_number"][:2] for row in rows} == {"'@"}
    assert {(row["subtotal"], row["tax"], row["total"], row["issued_at"], row["paid_at"]) for row in rows} == {
        ("-12345.67", "-0.05", "-12345.72", "2026-05-01 03:00:00", "")
    }


def test_the_sheet_is_whole_over_many_reads(serve: Serve, world: World) -> None:
    """2,500 invoices are read in three goes; each is there once, in the list's order."""
    world.query(
        "insert into billing.tenant_invoices (tenant_id, period_start, period_end, subtotal_cents, tax_cents,"
        " total_cents, issued_at, invoice_number, content_sha256, usage_cutoff, run_id)"
        " select 't' || n, '2026-04-01', '2026-05-01', n, 0, n, now(), 'N' || n, repeat('0', 64), now(), ''"
        " from generate_series(1, 2500) n"
    )
    sheet = serve(world.url).get("/api/v1/invoices.csv", headers=ADMIN).text.removeprefix("\ufeff")
    expected = world.query("select id::text from billing.tenant_invoices order by period_start desc, id desc")
    assert [(row["id"],) for row in csv.DictReader(io.StringIO(sheet))] == expected


def test_a_quoted_price_is_the_invoiced_one(api: httpx.Client) -> None:
    """The pilot's April before it exists: 64.22 + 6.42 = 70.64; usage may be an integer or a string."""
    answer = api.post("/api/v1/quotes", headers=tenant("pilot"), json=PILOT_QUOTE)
    quote = answer.json()
    assert (quote["subtotal_cents"], quote["tax_cents"], quote["total_cents"]) == (6422, 642, 7064)
    assert [(line["description"], line["qty"], line["amount_cents"]) for line in quote["lines"]] == [
        ("Plan: studio", "1.000000", 5000),
        ("Addon: storage_50gb", "1.000000", 750),
        ("Overage: droplet_hours", "672.000000", 672),
        ("GST 10%", "1.000000", 642),
    ]
    as_text = PILOT_QUOTE | {"usage": {"droplet_hours": "2160.000000"}}
    assert api.post("/api/v1/quotes", headers=ADMIN, json=as_text).json() == quote


def test_a_tenant_is_quoted_its_own_prices_and_nobody_elses(world: World, serve: Serve) -> None:
    """40.00 for 50.00 to the pilot and to an admin who names it; one unknown here has the list's; another is 403."""
    world.pilot()
    own = "insert into cloud.tenant_plan_prices select 'pilot', id, '2026-04-01', 4000 from cloud.plans"
    world.query(own)
    client = serve(world.url)

    def base(headers: dict[str, str], **wanted: str) -> tuple[int, int | None]:
        answer = client.post("/api/v1/quotes", headers=headers, json=PILOT_QUOTE | wanted)
        return answer.status_code, answer.json()["lines"][0]["amount_cents"] if answer.status_code == 200 else None

    assert base(tenant("pilot")) == base(ADMIN, tenant="pilot") == (200, 4000)
    assert base(ADMIN) == base(tenant("tomorrow")) == (200, 5000)
    assert base(tenant("nova"), tenant="pilot") == (403, None)
    assert base(ADMIN, tenant="nobody") == (422, None)


def test_a_quote_of_a_start_has_the_part_and_the_whole_month(world: World, serve: Serve) -> None:
    """50.00 a month from 16 April: 15 of 30 days are 25.00; from the 1st, or by whole months, there is one."""
    world.pilot()
    client = serve(world.url)

    def bases(start: str) -> list[int]:
        answer = client.post("/api/v1/quotes", headers=ADMIN, json={"plan": "studio", "start": start})
        quote = answer.raise_for_status().json()
        return [part["lines"][0]["amount_cents"] for part in (quote, quote.get("whole_month")) if part]

    assert bases("2026-04-16") == [5000]
    world.query("update cloud.plans set proration = 'daily'")
    assert (bases("2026-04-16"), bases("2026-04-01")) == ([2500, 5000], [5000])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": "2026-05-01"}, "start 2026-05-01 is not in 2026-04"),
        ({"start": "9999-12-31"}, "start"),
        ({"plan": "nothing"}, "no plan 'nothing'"),
        ({"addons": ["nothing"]}, "no addon 'nothing'"),
        ({"usage": {"nothing": 1}}, "no rate for 'nothing'"),
        ({"usage": {"droplet_hours": 0.1}}, "usage"),
        ({"usage": {"droplet_hours": "1e3"}}, "usage"),
        ({"usage": {"droplet_hours": "NaN"}}, "usage"),
        ({"usage": {"droplet_hours": -1}}, "usage"),
        ({"usage": {"droplet_hours": True}}, "usage"),
        ({"usage": {"droplet_hours": 10**12}}, "usage"),
        ({"month": "2026-13"}, "month"),
        ({"month": "1999-01"}, "no plan"),
        ({"addons": ["storage_50gb"] * 101}, "addons"),
        ({"price": 1}, "price"),
    ],
)
def test_a_quote_that_makes_no_sense_is_refused_with_the_reason(
    api: httpx.Client, change: dict[str, Any], said: str
) -> None:
    answer = api.post("/api/v1/quotes", headers=ADMIN, json=PILOT_QUOTE | change)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


HOSTILE = [
    "' or 1=1 --",
    "pilot'; drop table billing.tenant_invoices; --",
    '"; select pg_sleep(5); --',
    "%s",
    "%(tenant)s",
    "${jndi:ldap://127.0.0.1/x}",
    "../../etc/passwd",
    "\\",
    "pilot\x00",
    "\r\nX-Injected: 1",
    "'; set role arcadia; --",
    "x" * 5000,
    "ｐｉｌｏｔ",  # noqa: RUF001
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_every_parameter_is_only_text(api: httpx.Client, billed: World, text: str) -> None:
    """Refused, or found nothing; never an error of ours, never somebody's rows, never a header."""
    [(before,)] = billed.query("select count(*) from billing.tenant_invoices")
    answers = []
    for name in ("period", "status", "tenant_id", "limit", "cursor", text or "?"):
        answers.append(api.get("/api/v1/invoices", headers=ADMIN, params={name: text}))
        answers.append(api.get("/api/v1/invoices.csv", headers=ADMIN, params={name: text}))
    path = f"/api/v1/invoices/{httpx.QueryParams({'x': text})}"
    answers += [api.get(path, headers=ADMIN), api.get(f"{path}/events", headers=ADMIN)]
    bodies: list[dict[str, Any]] = [{"plan": text}, {"plan": "studio", "addons": [text]}]
    for body in [*bodies, {"plan": "studio", "usage": {text: 1}}]:
        answers.append(api.post("/api/v1/quotes", headers=ADMIN, json=body))
    answers.append(api.post("/api/v1/quotes", headers=ADMIN, content=text.encode()))
    plain = text.encode("latin-1", "ignore").replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    found = str(uuid.uuid4())
    answers.append(
        api.get(
            f"/api/v1/invoices/{found}",
            headers=[*ADMIN.items(), ("If-None-Match", plain.decode("latin-1")), ("X-Request-ID", "x")],
        )
    )
    for answer in answers:
        assert answer.status_code in (200, 400, 404, 413, 422), (answer.request.url, answer.text)
        assert "x-injected" not in answer.headers
        if answer.status_code == 200 and answer.headers["content-type"] == "application/json":
            assert answer.json()["items"] == []
    assert billed.query("select count(*) from billing.tenant_invoices") == [(before,)]


@pytest.mark.parametrize("cursor", ["", "AAAA", "MjAyNi0xMP_yBwpLr42e_RkiR-InJf1", "e30", "=" * 31, "é" * 31, "x" * 31])
def test_a_cursor_that_no_page_came_with_is_refused(api: httpx.Client, cursor: str) -> None:
    assert api.get("/api/v1/invoices", headers=ADMIN, params={"cursor": cursor}).status_code == 400


def test_a_body_that_is_too_large_or_no_json_is_refused(api: httpx.Client) -> None:
    """Whether it says its length or not."""
    headers = {**ADMIN, "Content-Type": "application/json"}

    def chunks() -> Any:
        for _ in range(100):
            yield b" " * 1024

    assert api.post("/api/v1/quotes", headers=headers, content=b" " * 70_000).status_code == 413
    assert api.post("/api/v1/quotes", headers=headers, content=chunks()).status_code == 413
    assert api.post("/api/v1/quotes", headers=headers, content=b"{").status_code == 422
    nested = api.post("/api/v1/quotes", headers=headers, content=b"[" * 60_000)
    assert nested.status_code in (400, 422)
    assert json.loads(nested.text)["request_id"]


def test_a_request_id_is_kept_if_it_is_a_plain_word(api: httpx.Client) -> None:
    assert api.get("/health", headers={"X-Request-ID": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for bad in ("a b", "x" * 65, "{}", ""):
        assert len(api.get("/health", headers={"X-Request-ID": bad}).headers["x-request-id"]) == 32
