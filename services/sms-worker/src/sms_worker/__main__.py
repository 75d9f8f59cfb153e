from sluice.start import start

start("sms_worker.app")
