from sluice.start import start

start("push_worker.app")
