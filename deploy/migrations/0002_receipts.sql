-- What providers told us later. The primary key makes a repeated receipt change nothing; the rows lie in the
-- partition of their delivery, so that they go with it.
CREATE TABLE receipts (
    delivery_id uuid NOT NULL,
    provider_id uuid NOT NULL,
    receipt_id  text NOT NULL,
    project_id  uuid NOT NULL,
    attempt     smallint NOT NULL,
    kind        text NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (delivery_id, provider_id, receipt_id)
) PARTITION BY RANGE (delivery_id);
