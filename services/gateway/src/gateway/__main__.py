from sluice.start import start

start("gateway.app")
