from sluice.start import start

start("event_worker.app")
