"""The life of an invoice: what operators do to it, what the database refuses to everybody, and holds."""

from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import psycopg
import pytest

from arcadia_pipelines.billing.month import BillingMonth
from arcadia_pipelines.pipeline import acts
from arcadia_pipelines.storage import database, operations
from arcadia_pipelines.storage.acts import Author
from arcadia_pipelines_tests.command_line import contents
from arcadia_pipelines_tests.logins import login
from arcadia_pipelines_tests.world import World, failed_checks, uid

PILOT, NUMBER = "pilot", "INV-202604-00001"
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture
def billed(pilots_april: World) -> World:
    """The pilot's April, issued as INV-202604-00001: 64.22 + 6.42."""
    return pilots_april


def row(world: World) -> tuple[object, ...]:
    """The pilot's April: status, number, revision, total."""
    [found] = world.query(
        "select status, invoice_number, revision, total_cents from billing.tenant_invoices"
        " where tenant_id = 'pilot' and period_start = '2026-04-01'"
    )
    return found


# The database's law

WAYS = {"draft": ["void", "draft"], "issued": [], "paid": ["paid"], "void": ["void"]}
"""How an issued invoice gets to a state."""
LEGAL = {("draft", "issued"), ("draft", "void"), ("issued", "paid"), ("issued", "void"), ("void", "draft")}


@pytest.mark.parametrize("before", WAYS)
def test_the_database_knows_which_state_may_follow_which(billed: World, before: str) -> None:
    """Draft to issued or void, issued to paid or void, void to draft; paid stays for ever."""
    for state in WAYS[before]:
        billed.query("update billing.tenant_invoices set status = %s", state)
    for after in WAYS:
        with psycopg.connect(billed.url) as connection:
            update = connection.execute
            if after == before or (before, after) in LEGAL:
                update("update billing.tenant_invoices set status = %s", [after])
            else:
                with pytest.raises(psycopg.errors.RestrictViolation, match=f"is {before}, and cannot become {after}"):
                    update("update billing.tenant_invoices set status = %s", [after])
            connection.rollback()


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("invoice_number = 'INV-202604-00009'", "keeps its id, tenant, month, number and date of issue"),
        ("invoice_number = null, status = 'void'", "keeps its id, tenant, month, number and date of issue"),
        ("tenant_id = 'acme'", "keeps its id, tenant, month, number and date of issue"),
        ("issued_at = issued_at - interval '1 day'", "keeps its id, tenant, month, number and date of issue"),
        ("subtotal_cents = 6423, total_cents = 7065", "has revision 1: new content is revision 2"),
        ("revision = 2", "has the content of revision 1, and keeps that number"),
        ("status = 'paid', content_sha256 = repeat('0', 64)", "has revision 1: new content is revision 2"),
        ("lines_sha256 = repeat('0', 64)", "has revision 1: new content is revision 2"),
        ('meta = meta || \'{"tenant_name": "Other"}\'', "keeps its buyer, its cut-off and its run"),
        ("status = 'void', run_id = 'another'", "keeps its buyer, its cut-off and its run"),
    ],
)
def test_the_database_keeps_an_issued_invoice_what_it_is(billed: World, change: str, refusal: str) -> None:
    """Number, tenant, month and date for life; content only with a new revision."""
    with pytest.raises(psycopg.errors.RestrictViolation, match=refusal):
        billed.query(f"update billing.tenant_invoices set {change}")


@pytest.mark.parametrize("freeze", ["status = 'paid'", "status = 'void'", "finance_invoice_id = 'F-1'"])
def test_the_database_keeps_the_content_of_a_locked_invoice(billed: World, freeze: str) -> None:
    """Not even as a new revision."""
    billed.query(f"update billing.tenant_invoices set {freeze}")
    with pytest.raises(psycopg.errors.RestrictViolation, match="keeps its content"):
        billed.query(
            "update billing.tenant_invoices set subtotal_cents = 6423, total_cents = 7065, revision = 2,"
            " content_sha256 = repeat('0', 64)"
        )


def test_the_database_keeps_the_lines_of_a_locked_invoice(billed: World) -> None:
    """Paid: no line is changed or deleted; only that its deployment is deleted may show."""
    billed.query("update billing.tenant_invoices set status = 'paid'")
    for statement in (
        "update billing.tenant_invoice_lines set amount_cents = 1 where line_no = 1",
        "update billing.tenant_invoice_lines set deployment_id = null, qty = 2 where line_no = 1",
        "delete from billing.tenant_invoice_lines",
        "update billing.tenant_invoices set meta = '{}'",
    ):
        with pytest.raises(psycopg.errors.RestrictViolation, match="keeps its"):
            billed.query(statement)
    billed.query("delete from cloud.subscription_addons")
    billed.query("delete from cloud.subscriptions")
    billed.query("delete from cloud.cloud_deployments")
    assert billed.query("select distinct deployment_id from billing.tenant_invoice_lines") == [(None,)]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ("paid_at = paid_at - interval '1 day'", "keeps its date of payment"),
        ("paid_at = null", "keeps its date of payment"),
        ("finance_invoice_id = 'F-2'", "keeps what finance has said of it"),
        ("pushed_to_finance_at = pushed_to_finance_at + interval '1 day'", "keeps what finance has said of it"),
        ("pushed_to_finance_at = null", "keeps what finance has said of it"),
        ("finance_invoice_id = null, pushed_to_finance_at = null", "is with finance, and stays so"),
    ],
)
def test_the_database_keeps_when_an_invoice_was_paid_and_that_finance_has_it(
    billed: World, change: str, refusal: str
) -> None:
    """Once they are set: which another program may do."""
    billed.query("update billing.tenant_invoices set status = 'paid', finance_invoice_id = 'F-1'")
    billed.query("update billing.tenant_invoices set pushed_to_finance_at = now()")
    with pytest.raises(psycopg.errors.RestrictViolation, match=refusal):
        billed.query(f"set constraints all immediate; update billing.tenant_invoices set {change}")


COLUMNS = (
    "id, invoice_id, deployment_id, kind, resource_kind, description, qty, unit, unit_price_cents, amount_cents, meta,"
    " period_start, line_no, deployment_name"
)
ANOTHER = COLUMNS.replace("id, invoice_id", "gen_random_uuid(), invoice_id", 1).replace("line_no", "line_no + 10")
IN_APRIL = ANOTHER.replace("period_start", "date '2026-04-01'")


def copy(world: World, table: str, *row: object) -> None:
    """COPY one line into the table."""
    columns = "invoice_id, kind, description, qty, unit_price_cents, amount_cents, period_start, line_no"
    statement = f"copy {table} ({columns}) from stdin".encode()
    with psycopg.connect(world.url) as connection, connection.cursor().copy(statement) as rows:
        rows.write_row(row)


def test_a_locked_invoice_takes_no_line_by_any_path_but_those_that_it_had(billed: World, server_url: str) -> None:
    """By INSERT and COPY, into the table and into its partition, by a line that moves, by TRUNCATE; all or nothing."""
    lines, april = "billing.tenant_invoice_lines", "billing.tenant_invoice_lines_2026_04"
    billed.publish("2026-05")
    billed.query("update billing.tenant_invoices set status = 'paid' where period_start = '2026-04-01'")
    [(paid,), (may,)] = billed.query("select id from billing.tenant_invoices order by period_start")
    one = f"select {ANOTHER} from {april} where line_no = 1"
    refused = {
        f"insert into {lines} ({COLUMNS}) {one}": "is locked, and keeps its lines",
        f"insert into {april} ({COLUMNS}) {one}": "is locked, and keeps its lines",
        f"update {lines} set invoice_id = '{paid}' where invoice_id = '{may}'": "stays on its invoice",
        f"update {lines} set invoice_id = '{may}' where invoice_id = '{paid}'": "stays on its invoice",
        f"update {lines} set period_start = '2026-04-01' where invoice_id = '{may}'": "stays on its invoice",
        f"insert into {lines} ({COLUMNS}) select {IN_APRIL} from {lines}"
        f" where invoice_id = '{may}'": "is of 2026-05, and its lines too",
        f"truncate {lines}": "tenant_invoice_lines is never emptied",
        f"truncate {april}": "tenant_invoice_lines_2026_04 is never emptied",
        "truncate billing.tenant_invoices cascade": "is never emptied",
        "truncate cloud.cloud_deployments cascade": "is never emptied",
    }
    for statement, message in refused.items():
        with pytest.raises(psycopg.errors.RestrictViolation, match=message):
            billed.query(statement)
    for table in (lines, april):
        with pytest.raises(psycopg.errors.RestrictViolation, match="is locked, and keeps its lines"):
            copy(billed, table, paid, "credit", "Credit", 1, -100, -100, "2026-04-01", 5)
    with login(server_url, billed.url, "arcadia_pipeline", acting_as="arcadia_pipeline") as own:
        with pytest.raises(psycopg.errors.RestrictViolation, match="is locked, and keeps its lines"):
            World(own).query(f"insert into {lines} ({COLUMNS}) select {ANOTHER} from {lines} where line_no = 1")
        for statement in (f"insert into {april} ({COLUMNS}) {one}", f"truncate {april}", f"truncate {lines}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                World(own).query(statement)
    billed.query(f"create table public.kept as select {COLUMNS} from {april}")
    billed.tamper(f"delete from {april}")
    with pytest.raises(psycopg.errors.RestrictViolation, match="is locked, and keeps its lines"):
        billed.query(f"insert into {lines} ({COLUMNS}) select * from public.kept where line_no < 4")
    billed.query(f"insert into {lines} ({COLUMNS}) select * from public.kept")
    assert [name for _, name in billed.disproved()] == [
        "newest_event_is_the_invoice",  # paid by hand, without an event
        "invoices_are_as_their_events_left_them",
    ]


def test_a_partition_is_attached_only_with_the_lines_that_locked_invoices_had(billed: World) -> None:
    """It was dropped with its table's other guards: its lines, one cent more, none of another month, are refused."""
    billed.done("mark_invoice_paid", invoices=[NUMBER])
    april = "billing.tenant_invoice_lines_2026_04"
    billed.query(f"create table public.kept as select {COLUMNS} from {april}")
    billed.query(f"drop table {april}")
    for amount in ("amount_cents + 1", "amount_cents"):
        kept = COLUMNS.replace("amount_cents", amount)
        with psycopg.connect(billed.url) as connection:
            connection.execute("select billing.new_partition('tenant_invoice_lines', '2026-04-01')")
            connection.execute(f"insert into {april} ({COLUMNS}) select {kept} from public.kept".encode())
            attach = "select billing.attach_partition('tenant_invoice_lines', '2026-04-01')"
            if amount == "amount_cents":
                connection.execute(attach.encode())
            else:
                with pytest.raises(
                    psycopg.errors.RestrictViolation, match="1 invoices are locked, and keep their lines"
                ):
                    connection.execute(attach.encode())
    assert billed.disproved() == []


def test_an_invoice_is_never_deleted(billed: World) -> None:
    """Void it: the message says so."""
    with pytest.raises(psycopg.errors.RestrictViolation, match="INV-202604-00001 is never deleted"):
        billed.query("delete from billing.tenant_invoices")


def test_a_payment_without_a_time_is_dated_now(billed: World) -> None:
    """The finance system says paid, and no more."""
    billed.query("update billing.tenant_invoices set status = 'paid'")
    assert billed.query("select paid_at <= now() from billing.tenant_invoices") == [(True,)]


@pytest.mark.long
def test_an_invoice_that_is_with_finance_is_not_reopened(billed: World) -> None:
    """A draft here, and an invoice there, would be two truths."""
    billed.query("update billing.tenant_invoices set finance_invoice_id = 'F-1'")
    billed.done("void_invoice", invoices=[NUMBER])
    message = billed.refused("reopen_invoice", invoices=[NUMBER])
    assert "INV-202604-00001 is with finance, and cannot become draft. Withdraw it there, and clear" in message
    said = billed.done("withdraw_from_finance", invoices=[NUMBER])
    assert said == "1 invoice withdrawn from finance now, $70.64 with GST, of 2026-04"
    assert "INV-202604-00001 of pilot is not with finance" in billed.refused("withdraw_from_finance", invoices=[NUMBER])
    assert billed.events()[-1] == ("withdrawn", PILOT, NUMBER, 1, "ada")
    assert billed.disproved() == []
    assert billed.findings("2026-04") == {}  # void by an operator's decision, as before
    billed.done("reopen_invoice", invoices=[NUMBER])
    assert row(billed) == ("draft", NUMBER, 1, 7064)


# Operators


def test_a_void_invoice_is_reopened_and_reissued_by_a_rerun_with_its_number(billed: World) -> None:
    """Voided, left alone by a re-run, reopened, and by the next run issued again: with 100 h more, as revision 2."""
    assert billed.done("void_invoice", invoices=[NUMBER]) == "1 invoice void now, $70.64 with GST, of 2026-04"
    billed.use("web", "droplet_hours", 100)
    billed.publish("2026-04")
    assert row(billed) == ("void", NUMBER, 1, 7064)
    billed.done("reopen_invoice", invoices=[NUMBER])
    assert row(billed) == ("draft", NUMBER, 1, 7064)
    billed.publish("2026-04")
    assert row(billed) == ("issued", NUMBER, 2, 7174)
    assert billed.events() == [
        ("issued", PILOT, NUMBER, 1, "month_end"),
        ("voided", PILOT, NUMBER, 1, "ada"),
        ("reopened", PILOT, NUMBER, 1, "ada"),
        ("redrafted", PILOT, NUMBER, 2, "month_end"),
        ("issued", PILOT, NUMBER, 2, "month_end"),
    ]
    [(before,)] = billed.query("select snapshot from billing.invoice_events where snapshot is not null")
    assert (before["invoice"]["total_cents"], len(before["lines"])) == (7064, 4)


@pytest.mark.long
def test_a_month_with_an_invoice_that_an_operator_voided_is_content(billed: World) -> None:
    """Also when late usage would change it. Reopened, issued, and voided by somebody who told nobody, it is red."""
    billed.done("void_invoice", invoices=[NUMBER])
    assert billed.findings("2026-04") == {}
    billed.use("web", "droplet_hours", 100)
    assert billed.findings("2026-04") == {}
    assert row(billed) == ("void", NUMBER, 1, 7064)
    billed.done("reopen_invoice", invoices=[NUMBER])
    billed.publish("2026-04")
    billed.query("update billing.tenant_invoices set status = 'void'")
    assert set(billed.findings("2026-04")) == {
        "every_billable_tenant_is_invoiced",
        "frozen_invoices_agree",
    }


@pytest.mark.long
def test_an_invoice_that_the_month_end_voided_is_named_once_there_is_something_to_bill_again(billed: World) -> None:
    """Nobody decided that: an operator reopens it, or voids what is then a draft, and the month is content."""
    billed.tenant("acme")
    billed.deployment("acme", "api", "studio")
    for status in ("pending", "active"):
        billed.query("update cloud.subscriptions set status = %s where tenant_id = 'pilot'", status)
        billed.publish("2026-04")
    assert row(billed) == ("void", NUMBER, 1, 7064)
    assert set(billed.findings("2026-04")) == {
        "every_billable_tenant_is_invoiced",
        "frozen_invoices_agree",
    }
    billed.done("reopen_invoice", invoices=[NUMBER])
    billed.done("void_invoice", invoices=[NUMBER])
    assert billed.findings("2026-04") == {}


def test_a_reopened_invoice_that_is_unchanged_is_issued_again_as_it_was(billed: World) -> None:
    """The same revision: nothing in it is new."""
    billed.done("void_invoice", invoices=[NUMBER])
    billed.done("reopen_invoice", invoices=[NUMBER])
    billed.publish("2026-04")
    assert row(billed) == ("issued", NUMBER, 1, 7064)
    assert [event for event, *_ in billed.events()] == ["issued", "voided", "reopened", "issued"]


def test_a_paid_invoice_has_the_day_of_its_payment(billed: World) -> None:
    """Named by its id this time. It was issued at 01:30 on the 2nd in Sydney, when the 1st was not over in UTC."""
    billed.tamper("update billing.tenant_invoices set issued_at = '2026-05-01 15:30+00'")
    [(invoice,)] = billed.query("select id::text from billing.tenant_invoices")
    refusal = billed.refused("mark_invoice_paid", invoices=[invoice], paid_on="2026-04-30", dry_run=True)
    assert refusal == f"{NUMBER} was issued on 2026-05-01, and cannot have been paid on 2026-04-30 already"
    said = billed.would("mark_invoice_paid", invoices=[invoice], paid_on="2026-05-01")
    assert said.startswith("dry run, nothing is written: 1 invoice would be paid")
    billed.done("mark_invoice_paid", invoices=[invoice], paid_on="2026-05-14")
    assert row(billed) == ("paid", NUMBER, 1, 7064)
    assert billed.query("select paid_at from billing.tenant_invoices where paid_at = '2026-05-14 00:00+00'") != []
    assert billed.events()[-1] == ("paid", PILOT, NUMBER, 1, "ada")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(billed: World) -> None:
    """Not a row in any table, and no observation; the run has a tag, which the list of runs shows."""
    before = contents(billed.url)
    with dg.DagsterInstance.ephemeral() as instance:
        result = billed.operate("void_invoice", instance, invoices=[NUMBER], dry_run=True)
        run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["arcadia/dry_run"] == "true"
    [output] = [event for event in result.all_events if event.is_successful_output]
    metadata = output.step_output_data.metadata
    said = "dry run, nothing is written: 1 invoice would be void, $70.64 with GST, of 2026-04"
    assert metadata["summary"].value == said
    assert metadata["invoices_changed"].value == 1
    assert not any(event.is_asset_observation for event in result.all_events)
    assert contents(billed.url) == before


def test_what_an_operator_does_is_told_on_the_months_partition(billed: World) -> None:
    """An observation with who, why and how many."""
    with dg.DagsterInstance.ephemeral() as instance:
        billed.operate("void_invoice", instance, invoices=[NUMBER])
        [record] = instance.fetch_observations(dg.AssetKey("tenant_invoices"), limit=2).records
    assert record.partition_key == "2026-04-01"
    observation = record.asset_observation
    assert observation
    told = {name: observation.metadata[name].value for name in ("operator", "reason", "invoices_changed")}
    assert told == {"operator": "ada", "reason": "asked by the tenant", "invoices_changed": 1}


def test_nobody_has_the_pipelines_name_or_one_that_reads_like_it() -> None:
    """In other cases, widths and accents, with what is not seen, or a Cyrillic o in it. Others are people's own."""
    spelled = "month_end MONTH_END Month-End monthend mo\u200bnth_end mo\u00adnth_end m\u00f3nth_end month_end\u202e"
    wide = "\uff4d\uff4f\uff4e\uff54\uff48\uff3f\uff25\uff2e\uff24"
    for name in (*spelled.split(), wide, "\U0001d426onth_end", " month  end "):
        with pytest.raises(operations.OperationRefused, match="month_end is the pipeline"):
            acts.refuse_pretence(name)
    for name in ("m\u043enth_end", "\u0430da"):
        with pytest.raises(operations.OperationRefused, match="mixes Latin letters"):
            acts.refuse_pretence(name)
    for name in (
        "",
        "ada",
        "Zo\u00eb M\u00fcller",
        "\u041c\u0430\u0440\u0438\u044f Ivanova",
        "\u674e\u660e",
        "month_end@example.com",
    ):
        acts.refuse_pretence(name)


@pytest.mark.parametrize(
    ("operation", "config", "message"),
    [
        ("void_invoice", {"invoices": []}, "no invoice is named"),
        ("void_invoice", {"invoices": [NUMBER, "INV-202604-00099"]}, "no invoice 'INV-202604-00099'"),
        ("void_invoice", {"invoices": [NUMBER], "operator": " "}, "operator and reason must be given"),
        ("void_invoice", {"invoices": [NUMBER], "reason": ""}, "operator and reason must be given"),
        ("void_invoice", {"invoices": [NUMBER], "operator": "Month_End"}, "month_end is the pipeline: give your own"),
        ("reopen_invoice", {"invoices": [NUMBER]}, "of pilot is issued and cannot become draft: only void can"),
        ("mark_invoice_paid", {"invoices": [NUMBER], "paid_on": "14.5."}, "'14.5.' is not a day: write it like 2026"),
        ("mark_invoice_paid", {"invoices": [NUMBER], "paid_on": "2999-01-01"}, "2999-01-01 is in the future: today is"),
        ("mark_invoice_paid", {"invoices": [NUMBER], "paid_on": "2026-04-30"}, "cannot have been paid on 2026-04-30"),
        ("void_invoice", {"invoices": [f" {NUMBER}"]}, f"no invoice ' {NUMBER}'"),
        ("void_invoice", {"invoices": [f"{NUMBER}\n"]}, f"no invoice '{NUMBER}\\n'"),
        ("issue_drafts", {"month": "April"}, "'April' is not a month"),
        ("issue_drafts", {"month": "2026-04", "tenants": ["pilot"]}, "no draft of 'pilot' in 2026-04"),
        ("issue_drafts", {"month": "2026-04", "tenants": [""]}, "no draft of '' in 2026-04"),
        ("hold_tenant", {"tenants": []}, "no tenant is named"),
        ("hold_tenant", {"tenants": ["pilot "]}, "no tenant 'pilot '"),
        ("hold_tenant", {"tenants": [""]}, "no tenant ''"),
        ("hold_tenant", {"tenants": ["pilot", "nobody"]}, "no tenant 'nobody'"),
        ("release_tenant", {"tenants": ["pilot"]}, "pilot is not on hold"),
        ("accept_unbilled_usage", {"month": "2026-05"}, "2026-05 is not quoted: materialise it first"),
        ("accept_unbilled_usage", {"month": "2026-04", "reason": " "}, "operator and reason must be given"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason_and_nothing_is_done(
    billed: World, operation: str, config: dict[str, object], message: str
) -> None:
    """All of it or nothing: also what could have been done is not."""
    before = contents(billed.url)
    assert message in billed.refused(operation, **config)
    assert contents(billed.url) == before


def test_one_of_two_that_cannot_be_voided_keeps_both(billed: World) -> None:
    """April is paid, May is not: neither is voided."""
    billed.publish("2026-05")
    billed.done("mark_invoice_paid", invoices=[NUMBER])
    message = billed.refused("void_invoice", invoices=[NUMBER, "INV-202605-00001"])
    assert "INV-202604-00001 of pilot is paid and cannot become void: only draft and issued can" in message
    assert billed.invoices("2026-05")["pilot"][0] == "issued"


def test_invoices_of_several_months_are_voided_at_once(billed: World) -> None:
    """70.64 of April and 63.25 of May."""
    billed.publish("2026-05")
    said = billed.done("void_invoice", invoices=["INV-202605-00001", NUMBER])
    assert said == "2 invoices void now, $133.89 with GST, of 2026-04, 2026-05"


# Holds


def test_a_tenant_on_hold_gets_a_draft_and_its_number_only_when_it_is_issued(world: World) -> None:
    """acme, bulk and pilot: bulk is on hold. It is issued later, with the next number: the series has no gap."""
    world.pilot()
    for name in ("acme", "bulk"):
        world.tenant(name)
        world.deployment(name, name, "studio")
    assert world.done("hold_tenant", tenants=["bulk"]) == "1 tenant on hold now: bulk"
    world.publish("2026-04")
    numbers = "select tenant_id, status, invoice_number, issued_at is null from billing.tenant_invoices order by 1"
    assert world.query(numbers) == [
        ("acme", "issued", "INV-202604-00001", False),
        ("bulk", "draft", None, True),
        ("pilot", "issued", "INV-202604-00002", False),
    ]
    assert world.done("issue_drafts", month="2026-04") == "0 invoices issued now; on hold, so left as drafts: bulk"
    assert "bulk is on hold: release the tenant first" in world.refused(
        "issue_drafts", month="2026-04", tenants=["bulk"]
    )
    assert world.done("release_tenant", tenants=["bulk"]) == "1 tenant released now: bulk; 1 draft of 2026-04"
    assert world.done("issue_drafts", month="2026-04") == "1 invoice issued now, $55.00 with GST, of 2026-04"
    assert world.query(numbers)[1] == ("bulk", "issued", "INV-202604-00003", False)
    history = [(event, tenant, number, by) for event, tenant, number, _, by in world.events() if tenant == "bulk"]
    assert history == [
        ("held", "bulk", None, "ada"),
        ("drafted", "bulk", None, "month_end"),
        ("released", "bulk", None, "ada"),
        ("issued", "bulk", "INV-202604-00003", "ada"),
    ]


def test_a_draft_that_is_voided_and_reopened_still_has_no_number(world: World) -> None:
    """It was never issued: its number goes to the invoice that is."""
    world.pilot()
    world.done("hold_tenant", tenants=[PILOT])
    world.publish("2026-04")
    [(draft,)] = world.query("select id::text from billing.tenant_invoices")
    world.done("void_invoice", invoices=[draft])
    assert row(world) == ("void", None, 1, 7064)
    world.done("reopen_invoice", invoices=[draft])
    assert row(world) == ("draft", None, 1, 7064)


def test_the_drafts_of_released_tenants_are_issued_by_a_rerun_in_one_block_with_new_ones(world: World) -> None:
    """acme and pilot wait, zoo is new: 00001 to 00003 by tenant, and the draft that changed is revised first."""
    world.pilot()
    world.tenant("acme")
    world.deployment("acme", "acme", "studio")
    world.done("hold_tenant", tenants=["acme", "pilot"])
    world.publish("2026-04")
    world.publish("2026-04")
    world.done("release_tenant", tenants=["pilot", "acme"])
    world.tenant("zoo")
    world.deployment("zoo", "zoo", "studio")
    world.use("web", "droplet_hours", 100)
    world.publish("2026-04")
    assert world.query(
        "select tenant_id, status, invoice_number, revision from billing.tenant_invoices order by 1"
    ) == [
        ("acme", "issued", "INV-202604-00001", 1),
        ("pilot", "issued", "INV-202604-00002", 2),
        ("zoo", "issued", "INV-202604-00003", 1),
    ]


def test_an_issued_invoice_of_a_tenant_on_hold_stays_as_it_is_until_the_release(billed: World) -> None:
    """Late usage of 100 h is not billed while the tenant is on hold."""
    billed.done("hold_tenant", tenants=["pilot"])
    billed.use("web", "droplet_hours", 100)
    billed.publish("2026-04")
    assert row(billed) == ("issued", NUMBER, 1, 7064)
    assert billed.disproved() == []
    billed.done("release_tenant", tenants=["pilot"])
    billed.publish("2026-04")
    assert row(billed) == ("issued", NUMBER, 2, 7174)


def test_a_tenant_whose_id_begins_with_a_space_is_another_tenant(billed: World) -> None:
    """It alone is held, and released; the pilot is not touched."""
    billed.tenant(" pilot")
    assert billed.done("hold_tenant", tenants=[" pilot"]) == "1 tenant on hold now:  pilot"
    assert billed.query("select tenant_id from billing.tenant_holds") == [(" pilot",)]
    billed.done("release_tenant", tenants=[" pilot"])
    assert [tenant for _, tenant, *_ in billed.events()[-2:]] == [" pilot", " pilot"]


def test_a_tenant_is_held_once(billed: World) -> None:
    """The second time says who holds it, and why."""
    billed.done("hold_tenant", tenants=["pilot"])
    assert "pilot is on hold already, by ada since" in billed.refused("hold_tenant", tenants=["pilot"])


# Usage that has vanished


def test_vanished_usage_is_accepted_with_a_reason_and_what_is_left_is_billed(billed: World) -> None:
    """One of 90 records of 24 h is purged: refused, accepted, and 648 h are billed: 6.48."""
    billed.query("delete from cloud.usage_records where id = (select min(id::text)::uuid from cloud.usage_records)")
    billed.stopped("2026-04")
    assert "records says 0, but 1 record of 2026-04 vanished: repeat the dry run" in billed.refused(
        "accept_vanished_usage", month="2026-04"
    )
    said = billed.done("accept_vanished_usage", month="2026-04", records=1)
    assert said == "1 record accepted as lost, of 1 meter"
    billed.publish("2026-04")
    assert billed.lines("pilot", "2026-04")[2] == ("Overage: droplet_hours", 648)
    assert billed.query(
        "select deployment_id, resource_kind, frozen_records, remaining_records, operator, reason"
        " from billing.usage_acceptances"
    ) == [(uid("web"), "droplet_hours", 90, 89, "ada", "asked by the tenant")]


def test_what_was_accepted_does_not_cover_what_vanishes_afterwards(billed: World) -> None:
    """One record is accepted as lost, then another is gone: refused again."""
    one = "delete from cloud.usage_records where id = (select min(id::text)::uuid from cloud.usage_records)"
    billed.query(one)
    billed.done("accept_vanished_usage", month="2026-04", records=1)
    billed.query(one)
    billed.stopped("2026-04")


@pytest.mark.long
def test_what_was_accepted_covers_nothing_of_usage_that_is_frozen_anew(world: World) -> None:
    """Of ten records five are lost, and accepted; five come late; then the other five are gone: refused again."""
    world.pilot()
    world.query("delete from cloud.usage_records")
    first, second = ([world.use("web", "droplet_hours", 1) for _ in range(5)] for _ in range(2))
    world.publish("2026-04")
    world.query("delete from cloud.usage_records where id = any(%s)", first)
    world.done("accept_vanished_usage", month="2026-04", records=5)
    world.publish("2026-04")
    for _ in range(5):
        world.use("web", "droplet_hours", 1)
    world.publish("2026-04")
    world.query("delete from cloud.usage_records where id = any(%s)", second)
    world.stopped("2026-04")


def test_nothing_is_accepted_where_nothing_has_vanished(billed: World) -> None:
    """It says so."""
    assert billed.done("accept_vanished_usage", month="2026-04") == "no frozen usage has vanished"
    assert billed.query("select count(*) from billing.usage_acceptances") == [(0,)]


# Usage that nobody pays for


@pytest.mark.long
def test_usage_that_nobody_pays_for_is_accepted_with_what_it_would_have_cost(billed: World) -> None:
    """40 GB, priced from June on at 5 c beyond 10: 1.50; 300 h before a subscription that has 2 h to spare: 2.98.

    And 5 h of a deployment that nobody has. One is accepted by its deployment, then the others; 41 GB are named again.
    """
    billed.plan("studio", rates={"egress_gb": (10, 5)}, since="2026-06-01")
    billed.use("web", "egress_gb", 40)
    billed.tenant("acme")
    billed.deployment("acme", "api", "studio", start="2026-04-10")
    billed.use("api", "droplet_hours", 300, "2026-04-09")
    billed.use("api", "droplet_hours", 1486, "2026-04-11")
    billed.use("nobody's", "droplet_hours", 5)
    check = failed_checks(billed.month_end("2026-04"))["all_usage_is_billed"]
    [shown] = [value for value in check.metadata.values() if isinstance(value, dg.TableMetadataValue)]
    columns = ("tenant_id", "deployment_name", "at_stake", "reason")
    assert [tuple(str(record.data[name]).strip() for name in columns) for record in shown.records] == [
        ("acme", "api", "2.98", "no_subscription"),
        ("pilot", "web", "1.50", "no_rate"),
        ("", "", "", "no_subscription"),
    ]
    everything = "accepted, $4.48 ex GST at stake, and 1 row without a rate to price them"
    dry = billed.would("accept_unbilled_usage", month="2026-04")
    assert dry == f"dry run, nothing is written: 3 rows of unbilled usage would be {everything}"
    refusal = billed.refused("accept_unbilled_usage", month="2026-04", deployments=["x", str(uid("api"))])
    assert "no unbilled usage is open in 2026-04 of deployment x:" in refusal
    for rows, deployments, wrong in [
        (0, [], "rows says 0, but 3 rows of unbilled usage of 2026-04 would be accepted: repeat the dry run, and see"),
        (2, [], "rows says 2, but 3 rows of unbilled"),
        (3, [str(uid("api"))], "rows says 3, but 1 row of unbilled"),
    ]:
        assert wrong in billed.refused("accept_unbilled_usage", month="2026-04", deployments=deployments, rows=rows)
    assert billed.query("select count(*) from billing.unbilled_acceptances") == [(0,)]
    said = billed.done("accept_unbilled_usage", month="2026-04", deployments=[str(uid("api"))], rows=1)
    assert said == "1 row of unbilled usage accepted, $2.98 ex GST at stake"
    said = billed.done("accept_unbilled_usage", month="2026-04", rows=2)
    assert said == "2 rows of unbilled usage accepted, $1.50 ex GST at stake, and 1 row without a rate to price them"
    assert billed.findings("2026-04") == {}
    assert billed.done("accept_unbilled_usage", month="2026-04") == "no unbilled usage is open"
    assert billed.query(
        "select deployment_id, resource_kind, cause, quantity, at_stake_cents, operator, reason"
        " from billing.unbilled_acceptances where at_stake_cents = 298"
    ) == [(uid("api"), "droplet_hours", "no_subscription", 300, 298, "ada", "asked by the tenant")]
    billed.use("web", "egress_gb", 1)
    assert billed.findings("2026-04")["all_usage_is_billed"].count == 1
    assert billed.disproved() == []


# Beside a running month


@pytest.mark.parametrize(
    ("operation", "config"),
    [("void_invoice", {"invoices": [NUMBER]}), ("hold_tenant", {"tenants": ["pilot"]})],
)
def test_an_operator_waits_for_the_month_that_is_running(
    billed: World, operation: str, config: dict[str, object]
) -> None:
    """While April is being published nothing is done; when that is over, it is."""
    with ThreadPoolExecutor(1) as threads:
        with database.month_transaction(database.engine(billed.url), BillingMonth.parse("2026-04")):
            acting = threads.submit(billed.done, operation, **config)
            while billed.query(WAITING) == [(0,)]:
                assert not acting.done()
            assert len(billed.events()) == 1
        assert acting.result(60).startswith("1 ")
    assert len(billed.events()) == 2


def test_a_month_waits_for_an_operators_act(billed: World) -> None:
    """The run begins while the pilot is being held; what it publishes knows of the hold."""
    billed.tenant("acme")
    billed.deployment("acme", "api", "studio")
    author = Author("ada", "asked by the tenant", "by hand")
    with ThreadPoolExecutor(1) as threads:
        with database.exclusive_transaction(database.engine(billed.url)) as connection:
            operations.hold(connection, ["acme"], author)
            running = threads.submit(billed.publish, "2026-04")
            while billed.query(WAITING) == [(0,)]:
                assert not running.done()
        running.result(60)
    assert billed.invoices("2026-04")["acme"][0] == "draft"
