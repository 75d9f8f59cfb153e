-- Of the claim that wrote the attempt: after an in-doubt commit, a claim that is tried again recognises its own attempts.
ALTER TABLE attempts ADD COLUMN claim_id uuid;
