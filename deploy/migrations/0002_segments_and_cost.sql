-- The number of segments of an SMS: what call rates and prices by the segment count.
ALTER TABLE deliveries ADD COLUMN segments smallint NOT NULL DEFAULT 1;

-- The provider's price at the time of the claim, for all segments; null: it had none.
ALTER TABLE attempts ADD COLUMN cost bigint;  -- millionths of the project's currency

ALTER TABLE analytics_rollups
    ADD COLUMN cost bigint NOT NULL DEFAULT 0,      -- of the attempts that a provider took, in millionths
    ADD COLUMN unpriced bigint NOT NULL DEFAULT 0;  -- such attempts without a cost
