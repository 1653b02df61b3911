"""Usage in Parquet files: counted there as PostgreSQL counts it, pinned, and refused where it does not fit."""

import datetime as dt
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from arcadia_pipelines.month import steps
from arcadia_pipelines.proof import controls, usage_controls
from arcadia_pipelines.storage import counts, database
from arcadia_pipelines.usage import loaders, sources
from arcadia_pipelines.usage.contract import RECORDS, SPANS, UsageSourceError
from arcadia_pipelines_tests.command_line import Call, refused
from arcadia_pipelines_tests.usage.month import APRIL, hard_april, invoices, rows
from arcadia_pipelines_tests.world import World, uid


@pytest.fixture
def folder(tmp_path: Path, in_environment: Callable[..., None]) -> Path:
    """The folder that the environment names, still empty."""
    there = tmp_path / "usage"
    there.mkdir()
    in_environment(ARCADIA_USAGE_URL=f"parquet:{there}")
    return there


def record(
    number: int, deployment: str, quantity: str | None, at: str, kind: str = "h", **columns: Any
) -> dict[str, Any]:
    """One record, ingested when it was recorded."""
    instant = dt.datetime.fromisoformat(at).replace(tzinfo=dt.UTC)
    return {
        "record_id": f"record {number}",
        "deployment_id": str(uid(deployment)),
        "resource_kind": kind,
        "quantity": None if quantity is None else Decimal(quantity),
        "recorded_at": instant,
        "ingested_at": instant,
        **columns,
    }


def write(folder: Path, name: str, *records: dict[str, Any]) -> None:
    pq.write_table(pa.Table.from_pylist(list(records), RECORDS), folder / name)


NOW = dt.datetime(2026, 5, 2, tzinfo=dt.UTC)


def trial() -> tuple[int, int, int, int]:
    """What the check finds of April: records, meters, those that are unusable, and those that have copies."""
    source = sources.configured()
    assert source is not None
    found = source.check(APRIL, SPANS.empty_table())
    return found.records, found.meters, found.unusable, found.copies


def shop(world: World) -> None:
    """Tenant a with one deployment on a plan of 1.00, and 2 c for each unit."""
    world.plan("small", 100, {"h": (0, 2)})
    world.tenant("a")
    world.deployment("a", "web", "small")


def lines(world: World) -> list[tuple[object, ...]]:
    """April's lines, in their order."""
    return world.query(
        "select description, qty, amount_cents from billing.tenant_invoice_lines"
        " where period_start = '2026-04-01' order by line_no"
    )


def test_a_hard_month_is_frozen_row_for_row_as_the_table_has_it(
    world: World, arcadia: Call, tmp_path: Path, in_environment: Callable[..., None]
) -> None:
    """However the rows are split over files; and the invoices have the same hashes."""
    hard_april(world)
    assert arcadia("usage", "export", "2026-04", "--to", f"parquet:{tmp_path}/one").code == 0
    world.publish("2026-04")
    by_table = rows(world), invoices(world)
    assert len(by_table[0]) > 40
    whole = pq.read_table(tmp_path / "one")
    (tmp_path / "split" / "day=3").mkdir(parents=True)
    for place, name in enumerate(("a", "b", "day=3/c")):  # every third row, columns in another order
        part = whole.filter(pc.equal(pc.bit_wise_and(pa.array(range(len(whole))), 3), place))
        pq.write_table(part.select(RECORDS.names[::-1]), tmp_path / "split" / f"{name}.parquet")
    rest = whole.filter(pc.equal(pc.bit_wise_and(pa.array(range(len(whole))), 3), 3))
    pq.write_table(rest, tmp_path / "split" / "d.parquet")
    world.query("delete from cloud.usage_records")
    for name in ("one", "split"):
        in_environment(ARCADIA_USAGE_URL=f"parquet:{tmp_path}/{name}")
        with database.month_at_an_instant(world.engine(), APRIL) as connection:
            assert not steps.freeze(connection, APRIL, "run", sources.configured()).changed
            pin = counts.pin(connection, APRIL)
        assert pin is not None
        assert len(pin["files"]) == {"one": 1, "split": 4}[name]
    world.publish("2026-04")
    assert (rows(world), invoices(world)) == by_table


def test_a_month_from_files_is_invoiced_explained_and_audited(world: World, arcadia: Call, folder: Path) -> None:
    """10.5 units at 2 c are 0.21, on 1.00; the check counts the files again, and finds one that was changed."""
    shop(world)
    write(folder, "a.parquet", record(1, "web", "10", "2026-04-03"), record(2, "web", "0.5", "2026-04-30 23:59:59"))
    world.month_end("2026-04")
    assert lines(world)[:2] == [("Plan: small", 1, 100), ("Overage: h", Decimal("10.5"), 21)]
    with database.snapshot(world.engine()) as connection:
        pin = counts.pin(connection, APRIL)
    assert pin is not None
    assert [(file["name"], file["size"]) for file in pin["files"]] == [
        ("a.parquet", (folder / "a.parquet").stat().st_size)
    ]
    [(number,)] = world.query("select invoice_number from billing.tenant_invoices")
    assert "record 2" in arcadia("explain", str(number)).out
    assert arcadia("audit", "2026-04").code == 0
    write(folder, "a.parquet", record(1, "web", "11", "2026-04-03"), record(2, "web", "0.5", "2026-04-30 23:59:59"))
    with database.snapshot(world.engine()) as connection:
        found = controls.find(connection, usage_controls.USAGE_EQUALS_RAW_RECORDS, APRIL)
    assert found.count == 1
    assert found.offenders[0]["raw_quantity"] == Decimal("11.5")
    assert found.offenders[0]["usage_source"] == "a.parquet has changed"


def test_an_explanation_goes_by_the_files_that_were_counted_and_not_by_stamps(
    world: World, arcadia: Call, folder: Path, in_environment: Callable[..., None]
) -> None:
    """One record is stamped years ahead, and was counted; the other has an early stamp, in a file that came later."""
    shop(world)
    ahead = dt.datetime(2199, 1, 1, tzinfo=dt.UTC)
    write(folder, "a.parquet", record(1, "web", "10", "2026-04-03", ingested_at=ahead))
    world.publish("2026-04")
    write(folder, "b.parquet", record(2, "web", "5", "2026-04-04", record_id="2\0"))  # no id for PostgreSQL
    explained = arcadia("explain", "INV-202604-00001")
    assert (explained.code, "!!" in explained.out) == (0, False)
    assert "1 more came later, 5 hour in sum: not on this invoice" in explained.out
    in_environment(ARCADIA_USAGE_URL=f"parquet:{folder}/")  # the same folder
    assert arcadia("explain", "INV-202604-00001").out == explained.out
    in_environment(ARCADIA_USAGE_URL=f"parquet:{folder}/elsewhere")  # which has none of these records
    said = f"2026-04 was counted from parquet:{folder}, and ARCADIA_USAGE_URL names parquet:{folder}/elsewhere"
    refused(arcadia("explain", "INV-202604-00001"), said)


def test_files_that_were_only_joined_are_no_difference(world: World, arcadia: Call, folder: Path) -> None:
    """Neither for the check nor if the frozen usage is lost: then what came until the cut-off is put back.

    A copy that came later is none of that.
    """
    shop(world)
    one, two = record(1, "web", "10", "2026-04-03"), record(2, "web", "-0.000001", "2026-04-04")
    write(folder, "a.parquet", one)
    write(folder, "b.parquet", two)
    world.publish("2026-04")
    frozen = rows(world)
    for name in "ab":
        (folder / f"{name}.parquet").unlink()
    write(folder, "both.parquet", one, two)
    late: dict[str, Any] = {"ingested_at": dt.datetime.now(dt.UTC)}
    write(folder, "late.parquet", record(3, "web", "7", "2026-04-05", **late), {**one, **late})
    world.tamper("delete from billing.metered_usage")
    assert arcadia("rebuild", "2026-04").code == 0
    assert rows(world) == frozen
    (folder / "late.parquet").unlink()
    assert world.findings("2026-04") == {}


def test_lost_lines_are_rebuilt_while_the_source_is_away_and_lost_usage_is_not(
    world: World, arcadia: Call, folder: Path, in_environment: Callable[..., None]
) -> None:
    """The quote lines prove the invoice's; nothing but the source that was counted could prove the usage."""
    shop(world)
    write(folder, "a.parquet", record(1, "web", "10", "2026-04-03"))
    world.publish("2026-04")
    billed = lines(world)
    in_environment(ARCADIA_USAGE_URL="parquet:/no/such/folder")
    world.tamper("delete from billing.tenant_invoice_lines")
    assert "the quote lines" in arcadia("rebuild", "2026-04").out
    assert lines(world) == billed
    world.tamper("delete from billing.metered_usage")
    said = f"2026-04 was counted from parquet:{folder}, and ARCADIA_USAGE_URL names parquet:/no/such/folder"
    refused(arcadia("rebuild", "2026-04"), said)
    in_environment(ARCADIA_USAGE_URL=f"parquet:{folder}")
    assert arcadia("rebuild", "2026-04").code == 0


def test_records_that_come_later_are_added_and_those_that_vanish_stop_the_month(world: World, folder: Path) -> None:
    """10 and later 5 more units at 2 c; then the first file is gone."""
    shop(world)
    write(folder, "a.parquet", record(1, "web", "10", "2026-04-03"))
    world.publish("2026-04")
    write(folder, "b.parquet", record(2, "web", "5", "2026-04-04"))
    late = world.findings("2026-05")["no_late_usage_in_the_month_before"]
    assert late.offenders[0]["at_stake_cents"] == 11  # 0.10, and GST
    world.publish("2026-04")
    assert lines(world)[1] == ("Overage: h", 15, 30)
    (folder / "a.parquet").unlink()
    assert "frozen usage of 2026-04 has vanished" in world.stopped("2026-04")
    (folder / "b.parquet").unlink()
    assert "has no *.parquet files" in world.stopped("2026-04")
    assert lines(world)[1] == ("Overage: h", 15, 30)


@pytest.mark.parametrize("most_sorted", [20_000_000, 0])
def test_copies_of_a_record_and_one_without_a_quantity_hold_back_their_tenants_only(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, most_sorted: int
) -> None:
    """Also a copy in the month after, which would be billed in both. Of few records, and as of too many to sort."""
    monkeypatch.setattr(sources, "_MOST_SORTED", most_sorted)
    shop(world)
    for tenant in "bcd":
        world.tenant(tenant)
        world.deployment(tenant, f"of {tenant}", "small")
    write(folder, "a.parquet", record(1, "web", "1", "2026-04-03"), record(1, "web", "1", "2026-04-03"))
    write(folder, "b.parquet", record(2, "of b", "1", "2026-04-03"), record(2, "of b", "1", "2026-05-01"))
    write(folder, "c.parquet", record(3, "of c", None, "2026-04-03"), record(4, "of d", "1", "2026-04-03"))
    world.publish("2026-04")
    assert [tenant for tenant, *_ in invoices(world)] == ["d"]
    assert world.query("select tenant_id, fault from billing.quote_faults order by 1") == [
        ("a", "duplicate_usage"),
        ("b", "duplicate_usage"),
        ("c", "unusable_usage"),
    ]


_PLAIN = {field.name: field.type for field in RECORDS}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"quantity": pa.float64()}, "quantity is floating point, and must be decimal(18, 6)"),
        ({"quantity": pa.decimal128(18, 4)}, "quantity is decimal(18, 4), and must be decimal(18, 6)"),
        ({"quantity": pa.decimal128(38, 6)}, "quantity is decimal(38, 6), and must be decimal(18, 6)"),
        ({"recorded_at": pa.timestamp("us")}, "recorded_at is timestamp without a time zone"),
        ({"recorded_at": pa.timestamp("ns", "UTC")}, "recorded_at is timestamp to the nanosecond"),
        ({"deployment_id": pa.binary(16)}, "deployment_id is fixed_size_binary[16], and must be text"),
        ({"ingested_at": None}, "there is no column ingested_at"),
        ({"Quantity": pa.float64()}, "quantity is there more than once (capitals aside), and must be decimal(18, 6)"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_words(folder: Path, columns: dict[str, Any], said: str) -> None:
    """Also if only the second file has them: the engine would convert it in silence."""
    write(folder, "a.parquet", record(1, "web", "1", "2026-04-03"))
    types = {**_PLAIN, **columns}
    schema = pa.schema([(name, type_) for name, type_ in types.items() if type_ is not None])
    pq.write_table(schema.empty_table(), folder / "b.parquet")
    source = sources.configured()
    assert source is not None
    with pytest.raises(UsageSourceError) as raised:
        source.check(APRIL, SPANS.empty_table())
    assert str(raised.value).startswith("b.parquet of parquet:")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"resource_kind": None}, "without a deployment_id or a resource_kind: 1"),
        ({"resource_kind": "h\0"}, "with a zero byte in them"),
        ({"deployment_id": str(uid("web")).upper()}, "that are not UUIDs in small letters with hyphens: 1"),
        ({"record_id": None}, "without a record_id"),
        ({"recorded_at": None}, "records without a recorded_at: 1"),
    ],
)
def test_a_record_that_nobody_could_be_billed_for_stops_the_month(
    world: World, folder: Path, broken: dict[str, Any], said: str
) -> None:
    shop(world)
    write(folder, "a.parquet", record(1, "web", "1", "2026-04-03"), {**record(2, "web", "1", "2026-04-03"), **broken})
    assert said in world.stopped("2026-04")
    assert world.query("select count(*) from billing.billing_months") == [(0,)]


def test_a_file_that_is_half_written_stops_the_month_in_one_line(world: World, folder: Path, arcadia: Call) -> None:
    shop(world)
    write(folder, "a.parquet", record(1, "web", "1", "2026-04-03"))
    whole = (folder / "a.parquet").read_bytes()
    (folder / "b.parquet").write_bytes(whole[: len(whole) // 2])
    (folder / "_c.parquet").write_bytes(b"")  # what others are still writing is not looked at
    checked = arcadia("usage", "check", "2026-04")
    refused(checked, "b.parquet", "is no whole Parquet file")
    assert "is no whole Parquet file" in world.stopped("2026-04")


def test_files_are_told_apart_whatever_their_names(folder: Path) -> None:
    """An engine would take three of them for patterns, read other files in their place, and one of those twice."""
    (folder / "_b").mkdir()
    for number, name in enumerate(("a1", "a[1]", "a*", "_b/a1", "?b")):
        write(folder, f"{name}.parquet", record(number, "web", "1", "2026-04-03"))
    assert trial() == (4, 1, 0, 0)


def test_a_link_to_a_folder_is_refused_and_a_file_behind_a_link_is_watched(folder: Path, tmp_path: Path) -> None:
    """Else the folder's usage would be left out in silence; and a link is not written when its file is."""
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", "a.parquet", record(1, "web", "1", "2026-04-03"))
    (folder / "linked.parquet").symlink_to(tmp_path / "other" / "a.parquet")
    source = sources.configured()
    assert source is not None
    pin = source.count(APRIL, SPANS.empty_table(), NOW).pin
    assert source.is_as_it_was(pin)
    write(tmp_path / "other", "a.parquet", record(1, "web", "2", "2026-04-03"))
    assert not source.is_as_it_was(pin)
    (folder / "march").symlink_to(tmp_path / "other")
    with pytest.raises(UsageSourceError, match=f"march of {folder} is a link to a folder"):
        trial()


def test_a_folder_that_cannot_be_listed_stops_the_count(folder: Path) -> None:
    """Its usage would be left out in silence. This one's path is longer than the system takes; a disk may fail, too."""
    write(folder, "a.parquet", record(1, "web", "1", "2026-04-03"))
    deep = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=deep)
        above, deep = deep, os.open("x" * 250, os.O_RDONLY, dir_fd=deep)
        os.close(above)
    os.close(deep)
    with pytest.raises(UsageSourceError, match="File name too long"):
        trial()


def test_text_may_be_views_and_columns_beside_the_contracts_are_left_alone(folder: Path) -> None:
    """Arrow's string_view is what some writers call their text; the other column is a list in one file only."""
    plain = pa.Table.from_pylist([record(1, "web", "1", "2026-04-03")], RECORDS)
    views = plain.set_column(2, "resource_kind", pa.array(["h"], pa.string_view()))
    pq.write_table(views.append_column("tags", pa.array([["a"]])), folder / "a.parquet")
    write(folder, "b.parquet", record(2, "web", "1", "2026-04-03"))
    assert trial() == (2, 1, 0, 0)
    source = sources.configured()
    assert source is not None
    records = source.records_of(APRIL, [str(uid("web"))])
    assert (records.schema, sorted(records["record_id"].to_pylist())) == (RECORDS, ["record 1", "record 2"])


def test_quantities_of_eighteen_digits_are_counted_a_second_way(folder: Path) -> None:
    """Twice 999,999,999,999.999999 is 1,999,999,999,998 units and 1,999,998 millionths."""
    for number, (kind, quantity) in enumerate((("more", "999999999999.999999"), ("less", "-999999999999.999999"))):
        twice = [record(10 * number + n, "web", quantity, "2026-04-03", kind) for n in range(2)]
        write(folder, f"{kind}.parquet", *twice)
    source = sources.configured()
    assert source is not None
    pin = source.count(APRIL, SPANS.empty_table(), NOW).pin
    again, _ = source.count_again(APRIL, NOW, pin)
    assert sorted((row["resource_kind"], row["units"], row["millionths"]) for row in again.to_pylist()) == [
        ("less", -1_999_999_999_998, -1_999_998),
        ("more", 1_999_999_999_998, 1_999_998),
    ]


def test_an_empty_folder_stops_the_month_as_everybody_would_be_billed_for_no_usage(world: World, folder: Path) -> None:
    shop(world)
    assert world.stopped("2026-04").startswith(f"parquet:{folder} has no *.parquet files")


def test_a_folder_that_is_not_there_and_a_kind_that_nobody_knows_are_refused(arcadia: Call) -> None:
    gone = arcadia("usage", "check", "2026-04", "--source", "parquet:/no/such/folder")
    refused(gone, "parquet:/no/such/folder: there is no such folder")
    refused(arcadia("usage", "check", "2026-04", "--source", "oracle:usage"), "of no known kind: write parquet:FOLDER")


def test_a_password_is_in_no_sources_name_and_in_no_refusal_of_its_url() -> None:
    assert sources.source("parquet:sftp://ada:secret@host/usage").name == "parquet:sftp://ada@host/usage"
    assert sources.source("parquet:s3://bucket/a:b@c").name == "parquet:s3://bucket/a:b@c"
    with pytest.raises(UsageSourceError, match=r"its host or its port cannot be read. In a password, / is written"):
        sources.source("clickhouse://ada:sec/ret@host/db")


def test_an_object_store_is_read_as_a_folder_is(world: World, in_environment: Callable[..., None]) -> None:
    """By fsspec, whose memory stands for the store; what is gone there is noticed."""
    fsspec = pytest.importorskip("fsspec")
    shop(world)
    with fsspec.open("memory://bucket/usage/a.parquet", "wb") as out:
        pq.write_table(pa.Table.from_pylist([record(1, "web", "3", "2026-04-03")], RECORDS), out)
    in_environment(ARCADIA_USAGE_URL="parquet:memory://bucket/usage")
    world.publish("2026-04")
    assert lines(world)[1] == ("Overage: h", 3, 6)


def test_made_up_usage_is_of_the_month_its_deployments_and_kinds(world: World, arcadia: Call, folder: Path) -> None:
    shop(world)
    made = arcadia("usage", "generate", "1000", "--month", "2026-04", "--to", f"parquet:{folder}")
    assert made.out.strip() == f"1,000 records in 1 file of parquet:{folder}"
    again = arcadia("usage", "generate", "1000", "--month", "2026-04", "--to", f"parquet:{folder}")
    assert "has 1 file of 2026-04 already" in again.err
    checked = arcadia("usage", "check", "2026-04")
    assert checked.out.strip() == f"parquet:{folder} fits: 2026-04 has 1,000 records of 1 meter"
    table = pq.read_table(folder)
    assert pc.count_distinct(table["record_id"]).as_py() == 1000
    assert set(table["deployment_id"].to_pylist()) == {str(uid("web"))}


def test_files_of_a_month_are_written_once_whatever_the_folders_name(folder: Path) -> None:
    to, meters = f"parquet:{folder}/usage-[april]", [(str(uid("web")), "h")]
    assert loaders.write(loaders.made_up(10, APRIL, meters), APRIL, to) == (10, 1)
    with pytest.raises(loaders.NotLoaded, match="has 1 file of 2026-04 already"):
        loaders.write(loaders.made_up(10, APRIL, meters), APRIL, to)


def test_the_ids_of_many_deployments_are_written_once_in_a_row_group(folder: Path) -> None:
    meters = [(f"{number:08x}-0000-4000-8000-000000000000", "h") for number in range(40_000)]
    assert loaders.write(loaders.made_up(120_000, APRIL, meters), APRIL, f"parquet:{folder}") == (120_000, 1)
    file = pq.ParquetFile(folder / "usage-2026-04-00001.parquet").metadata
    assert file.num_row_groups == 1
    # 40,000 texts of 36 characters and their lengths are 1.6 MB; as 120,000 texts they would be 4.8 MB.
    assert file.row_group(0).column(1).total_uncompressed_size < 2_000_000


def test_what_no_file_can_hold_is_null_in_it(world: World, tmp_path: Path) -> None:
    shop(world)
    world.query(
        "insert into cloud.usage_records select gen_random_uuid(), id, 'h', 'NaN', '2026-04-05', 'infinity'"
        " from cloud.cloud_deployments"
    )
    with database.snapshot(world.engine()) as connection:
        loaders.write(counts.records(connection, APRIL), APRIL, f"parquet:{tmp_path}/usage")
    [written] = pq.read_table(tmp_path / "usage").to_pylist()
    assert (written["deployment_id"], written["quantity"], written["ingested_at"]) == (str(uid("web")), None, None)
