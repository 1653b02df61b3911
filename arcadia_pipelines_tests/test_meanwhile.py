"""The platform goes on while a month runs: plans, prices, deployments and subscriptions change in place."""

from contextlib import suppress

import psycopg

from arcadia_pipelines_tests.test_faults import Line, whole
from arcadia_pipelines_tests.world import World, failed_checks, failures, uid

TURN = (  # each time to what it was not
    "update cloud.subscriptions set plan_id = case plan_id when %(studio)s then %(loft)s else %(studio)s end",
    "update cloud.plan_rates set included_quantity = 2488 - included_quantity, unit_price_cents = 3 - unit_price_cents",
    "update cloud.plan_prices set base_price_cents = 12000 - base_price_cents",
    "update cloud.cloud_deployments set name = reverse(name)",
    "update cloud.cloud_deployments set tenant_id = case tenant_id when 'pilot' then 'nova' else 'pilot' end"
    " where name in ('web', 'bew')",
    "update cloud.tenants set name = reverse(name)",
)


def test_what_the_platform_changes_in_place_at_any_instant_does_not_fail_the_month(world: World) -> None:
    """Before every statement of the run something else is changed: the month is invoiced whole, and its checks pass.

    Run again in peace, it bills what is sold then: studio, with 1,000 or 1,488 hours included.
    """
    world.pilot()
    world.plan("loft", 7000, {"droplet_hours": (1000, 2)})
    world.tenant("nova")
    world.deployment("nova", "nova-web", "loft")
    world.use("nova-web", "droplet_hours", 1200)
    world.use("web", "droplet_hours", 5, "2026-03-10 12:00+00")
    plans = {"studio": uid("studio"), "loft": uid("loft")}
    line, turns = Line(world.url), 0
    with psycopg.connect(world.url, autocommit=True, options="-c lock_timeout=20") as platform:

        def turn(_: object) -> None:
            nonlocal turns
            with suppress(psycopg.errors.LockNotAvailable):  # once the month's partition is attached, until it commits
                platform.execute(TURN[turns % len(TURN)].encode(), plans)
            turns, line.struck = turns + 1, None

        for month in ("2026-03", "2026-04"):
            line.expect(lambda _: True, turn)
            result = world.month_end(month)
            assert failures(result) == []
            assert failed_checks(result) == {}
            whole(world)
    assert turns > 200
