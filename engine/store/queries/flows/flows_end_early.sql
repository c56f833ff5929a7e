-- Their flows have started.
DELETE FROM flows.early WHERE flow = ANY ($1::uuid[])
