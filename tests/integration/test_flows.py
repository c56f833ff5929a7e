"""Flows on real servers."""

from tests.flow_desks import flow_desk
from tests.flow_examples import payout


async def test_a_payout_on_real_servers(postgres_dsn: str, redis_url: str) -> None:
    async with flow_desk(postgres_dsn, redis_url) as desk, desk.working():
        await desk.define(payout())
        flow = await desk.start()
        await desk.waits(flow, "signal bank")
        assert await desk.balance("wallet") == (500, 0, 0, 0)
        assert await desk.signal(flow, "settled") == "created"
        await desk.ends(flow, "paid")
        assert await desk.balance("wallet") == (0, 500, 0, 0)
        await desk.verify()
