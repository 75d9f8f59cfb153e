from sluice.start import start

start("email_worker.app")
