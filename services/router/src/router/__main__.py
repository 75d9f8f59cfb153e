from sluice.start import start

start("router.app")
