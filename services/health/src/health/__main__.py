from sluice.start import start

start("health.app")
