"""The rollups of analytics against a recount in plain SQL, which shares nothing with the code that counts.

For tests and for the oracle of ``make chaos``: :data:`DIFFERENCES` returns no row when the rollups are right.
"""

# One row for each delivery and number.
_RECOUNT = """
    ranks (state, rank) AS (
        VALUES ('QUEUED', 1), ('SENDING', 2), ('SENT', 3), ('UNCONFIRMED', 4), ('EXPIRED', 5), ('SOFT_BOUNCE', 6),
               ('FAILED', 7), ('DELIVERED', 8), ('BOUNCED', 9), ('COMPLAINED', 10), ('CANCELLED', 11)
    ), attempt AS (  -- of each delivery, with the provider of the one before
        SELECT delivery_id, sequence, provider_id,
               lag(provider_id) OVER (PARTITION BY delivery_id ORDER BY sequence) AS before,
               row_number() OVER (PARTITION BY delivery_id ORDER BY sequence DESC) AS nth
          FROM events WHERE type = 'sending'
    ), newest AS (
        SELECT delivery_id, provider_id FROM attempt WHERE nth = 1
    ), decisive AS (  -- the event that made the state
        SELECT DISTINCT ON (e.delivery_id) e.delivery_id, e.state, e.provider_id
          FROM events e JOIN ranks USING (state)
         ORDER BY e.delivery_id, rank DESC, e.sequence
    ), firsts AS (
        SELECT DISTINCT ON (delivery_id, type) delivery_id, type, sequence, occurred_at, provider_id
          FROM events ORDER BY delivery_id, type, sequence
    ), made (delivery_id, provider_id, name) AS (
        SELECT delivery_id, provider_id, 'settled' FROM decisive WHERE state NOT IN ('QUEUED', 'SENDING', 'CANCELLED')
         UNION ALL
        SELECT delivery_id, provider_id,
               CASE state WHEN 'DELIVERED' THEN 'delivered' WHEN 'UNCONFIRMED' THEN 'unconfirmed'
                          WHEN 'COMPLAINED' THEN 'complained' WHEN 'BOUNCED' THEN 'bounced'
                          WHEN 'SOFT_BOUNCE' THEN 'bounced' ELSE 'failed' END
          FROM decisive WHERE state NOT IN ('QUEUED', 'SENDING', 'SENT', 'CANCELLED')
         UNION ALL
        SELECT f.delivery_id, f.provider_id, 'delivered'
          FROM firsts f JOIN decisive d USING (delivery_id) WHERE f.type = 'delivered' AND d.state = 'COMPLAINED'
         UNION ALL
        (SELECT DISTINCT ON (delivery_id) delivery_id, provider_id, 'sent' FROM firsts
          WHERE type IN ('sent', 'delivered') ORDER BY delivery_id, sequence)
         UNION ALL
        (SELECT DISTINCT ON (delivery_id) delivery_id, provider_id, 'opened' FROM firsts
          WHERE type IN ('opened', 'read') ORDER BY delivery_id, sequence)
         UNION ALL
        SELECT delivery_id, provider_id, 'clicked' FROM firsts WHERE type = 'clicked'
    ), waited (delivery_id, provider_id, name, ms) AS (
        SELECT s.delivery_id, s.provider_id, 'accept_to_sent',
               extract(epoch FROM s.occurred_at - greatest(a.occurred_at, m.send_at)) * 1000
          FROM firsts a JOIN firsts s USING (delivery_id)
          JOIN deliveries d ON d.id = a.delivery_id JOIN messages m ON m.id = d.message_id
         WHERE a.type = 'accepted' AND s.type = 'sent'
         UNION ALL
        SELECT r.delivery_id, r.provider_id, 'sent_to_delivered',
               extract(epoch FROM r.occurred_at - s.occurred_at) * 1000
          FROM firsts s JOIN firsts r USING (delivery_id) WHERE s.type = 'sent' AND r.type = 'delivered'
    ), bucketed AS (
        SELECT w.delivery_id, w.provider_id, w.name,
               (SELECT 16 * e + (v >> e) FROM generate_series(28, 0, -1) AS e
                 WHERE e = 0 OR v >> (e - 1) >= 32 ORDER BY e DESC LIMIT 1)::int AS bucket
          FROM waited w, LATERAL (SELECT least(greatest(floor(w.ms), 0), 4294967295)::bigint) AS c (v)
    ), numbers (delivery_id, provider_id, name, number) AS (
        SELECT delivery_id, provider_id, name, 1 FROM made
         UNION ALL  -- a histogram: digits in base 10^12
        SELECT delivery_id, provider_id, name, ('1' || repeat('0', 12 * bucket))::numeric FROM bucketed
         UNION ALL
        SELECT delivery_id, before, 'failovers', 1 FROM attempt
         WHERE before IS NOT NULL AND before IS DISTINCT FROM provider_id
         UNION ALL
        SELECT delivery_id, provider_id, CASE WHEN cost IS NULL THEN 'unpriced' ELSE 'cost' END, coalesce(cost, 1)
          FROM attempts a
         WHERE EXISTS (SELECT FROM events e WHERE e.delivery_id = a.delivery_id AND e.attempt = a.number
                          AND e.type IN ('sent', 'delivered'))
    ), recounted AS (
        SELECT d.project_id, d.sandbox, i.interval, t.tag, date_trunc(i.interval, a.at, 'UTC') AS starts_at, d.channel,
               coalesce(n.provider_id, newest.provider_id, '00000000-0000-0000-0000-000000000000') AS provider_id,
               n.name,
               sum(n.number) AS number
          FROM numbers n
          JOIN deliveries d ON d.id = n.delivery_id
          JOIN messages m ON m.id = d.message_id
          LEFT JOIN newest ON newest.delivery_id = n.delivery_id
         CROSS JOIN (VALUES ('hour'), ('day')) AS i (interval)
         CROSS JOIN LATERAL (SELECT '' UNION SELECT unnest(m.tags)) AS t (tag)
         CROSS JOIN LATERAL (
               SELECT to_timestamp(('x' || substr(replace(d.id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0)
               ) AS a (at)
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 HAVING sum(n.number) <> 0
    )
"""

_STORED = """
    stored AS (
        SELECT project_id, sandbox, interval, tag, starts_at, channel, provider_id, n.name, n.number
          FROM analytics_rollups r
         CROSS JOIN LATERAL (
               VALUES ('settled', r.settled::numeric), ('sent', r.sent), ('delivered', r.delivered),
                      ('failed', r.failed), ('unconfirmed', r.unconfirmed), ('bounced', r.bounced),
                      ('complained', r.complained), ('opened', r.opened), ('clicked', r.clicked),
                      ('failovers', r.failovers), ('cost', r.cost), ('unpriced', r.unpriced),
                      ('accept_to_sent', r.accept_to_sent),
                      ('sent_to_delivered', r.sent_to_delivered)
               ) AS n (name, number)
         WHERE n.number <> 0
    )
"""

DIFFERENCES = f"""
    WITH {_RECOUNT}, {_STORED}
    SELECT 'only in the rollups' AS fault, * FROM (SELECT * FROM stored EXCEPT SELECT * FROM recounted) AS extra
     UNION ALL
    SELECT 'only in the recount', * FROM (SELECT * FROM recounted EXCEPT SELECT * FROM stored) AS missing
"""
"""The rollups and the recount of the whole database: the rows that only one of them has."""
