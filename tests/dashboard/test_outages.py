"""What a page shows while the gateway or the database is away, and that it recovers by itself."""

from urllib.parse import urlsplit

from tests.dashboard.screens import axe_violations
from tests.system.testbed import smtp_at


async def test_without_the_gateway_what_is_loaded_stays_and_the_page_recovers(screens, testbed):
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))
    await testbed.settled(await testbed.send(subject="Loaded before"))
    async with screens.open() as page:
        await page.goto(screens.path("/messages"))
        await page.get_by_text("Loaded before").wait_for()

        await testbed.run_command("stop", "gateway")

        await page.get_by_text("Trying again every 5 s").wait_for(timeout=60_000)
        assert await page.get_by_text("Loaded before").is_visible()
        await screens.shot(page, "no-gateway")

        await testbed.run_command("start", "gateway")
        await page.get_by_text("Trying again every 5 s").wait_for(state="detached", timeout=60_000)


async def test_without_the_database_the_page_says_so_and_recovers(screens, testbed):
    async with screens.open() as page:
        await page.goto(screens.path("/providers/email"))
        await page.get_by_text("There is no provider for E-mail yet").wait_for()

        await testbed.run_command("stop", "postgres")

        await page.get_by_text("UNAVAILABLE").first.wait_for(timeout=60_000)
        await page.get_by_text("PostgreSQL does not answer the gateway.").wait_for(timeout=60_000)
        await screens.shot(page, "no-database")

        await testbed.run_command("start", "postgres")
        await page.get_by_text("UNAVAILABLE").first.wait_for(state="detached", timeout=60_000)


async def test_each_service_that_is_away_is_named_with_what_follows_until_it_is_back(screens, testbed):
    async with screens.open() as page:
        for name, lead, text in (
            ("redis", "Redis is down since", "Limits and the evidence of health are approximate meanwhile."),
            ("kafka", "Kafka is down since", "Messages are accepted and kept"),
            ("router", "No router runs.", "New messages are accepted and wait for it."),
        ):
            banner = page.get_by_text(lead)
            await page.goto(screens.path("/messages"))
            await testbed.run_command("stop", name)
            try:
                await banner.wait_for(timeout=90_000)
                await page.get_by_text(text).wait_for()
                await screens.shot(page, f"no-{name}")
                assert await axe_violations(page) == []
            finally:
                await testbed.run_command("start", name)
            await banner.wait_for(state="detached", timeout=90_000)
