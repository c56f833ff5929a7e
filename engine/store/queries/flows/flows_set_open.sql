INSERT INTO flows.open (flow, shard, wake_at)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[])
ON CONFLICT (flow) DO UPDATE SET wake_at = excluded.wake_at
