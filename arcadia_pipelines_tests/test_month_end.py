"""The month end through Dagster's own job: the worked example, and running a month again."""

from arcadia_pipelines_tests.world import World, failed_checks


def test_the_pilot_owes_70_dollars_64_for_april(world: World) -> None:
    """50.00 + 7.50 + 672 h x 1 c = 64.22; GST 6.422 -> 6.42; total 70.64."""
    world.pilot()
    result = world.month_end("2026-04")
    assert world.invoices("2026-04") == {"pilot": ("issued", 1, 6422, 642, 7064)}
    assert world.lines("pilot", "2026-04") == [
        ("Plan: studio", 5000),
        ("Addon: storage_50gb", 750),
        ("Overage: droplet_hours", 672),
        ("GST 10%", 642),
    ]
    assert failed_checks(result) == {}
