"""Pure tests: many examples, and no judgement of how fast a busy machine is."""

from hypothesis import settings

settings.register_profile("sluice", deadline=None, max_examples=60)
settings.load_profile("sluice")
