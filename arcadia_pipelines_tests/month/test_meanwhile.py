"""The platform goes on while a month runs: plans, prices, deployments and subscriptions change in place."""

from contextlib import suppress

import psycopg
import pytest

from arcadia_pipelines_tests.trouble import Line, whole
from arcadia_pipelines_tests.world import World, failed_checks, failures, uid

TURN = (  # each time to what it never was together with the rest
    "update cloud.subscriptions set plan_id = case plan_id when %(studio)s then %(loft)s else %(studio)s end",
    "update cloud.plan_rates set included_quantity = included_quantity + 1, unit_price_cents = 3 - unit_price_cents",
    "update cloud.plan_prices set base_price_cents = 12000 - base_price_cents",
    "update cloud.cloud_deployments set name = reverse(name)",
    "update cloud.cloud_deployments set tenant_id = case tenant_id when 'pilot' then 'nova' else 'pilot' end"
    " where name in ('web', 'bew')",
    "update cloud.tenants set name = reverse(name)",
)


@pytest.mark.long
def test_what_the_platform_changes_in_place_at_any_instant_does_not_fail_the_month(world: World) -> None:
    """Before every statement of two runs something else is changed: the month is invoiced whole, its checks pass."""
    world.pilot()
    world.plan("loft", 7000, {"droplet_hours": (1000, 2)})
    world.tenant("nova")
    world.deployment("nova", "nova-web", "loft")
    world.use("nova-web", "droplet_hours", 1200)
    plans = {"studio": uid("studio"), "loft": uid("loft")}
    line, turns = Line(world.url), 0
    with psycopg.connect(world.url, autocommit=True, options="-c lock_timeout=20") as platform:

        def turn(_: object) -> None:
            nonlocal turns
            with suppress(psycopg.errors.LockNotAvailable):  # once the month's partition is attached, until it commits
                platform.execute(TURN[turns % len(TURN)].encode(), plans)
            turns, line.struck = turns + 1, None

        for _ in range(2):
            line.expect(lambda _: True, turn)
            result = world.month_end("2026-04")
            assert failures(result) == []
            assert failed_checks(result) == {}
            whole(world)
    assert turns > 200


@pytest.mark.long
def test_usage_that_is_committed_with_an_earlier_stamp_while_a_month_runs_fails_no_check(world: World) -> None:
    """Before every statement of a run an hour more is committed, stamped an hour ago: what had come when the usage was
    frozen is billed, and the rest by the next run."""
    world.pilot()
    line, records = Line(world.url), 0
    with psycopg.connect(world.url, autocommit=True) as platform:

        def meter(_: object) -> None:
            nonlocal records
            platform.execute(
                "insert into cloud.usage_records values (gen_random_uuid(), %s, 'droplet_hours', 1,"
                " '2026-04-20', now() - interval '1 hour')",
                [uid("web")],
            )
            records, line.struck = records + 1, None

        line.expect(lambda _: True, meter)
        assert failed_checks(world.month_end("2026-04")) == {}
    line.expect(lambda _: False, meter)
    billed = "select sum(quantity)::int from billing.metered_usage where period_start = '2026-04-01'"
    [(first,)] = world.query(billed)
    assert 2160 <= first < 2160 + records
    assert world.findings("2026-04") == {}
    assert world.query(billed) == [(2160 + records,)]
