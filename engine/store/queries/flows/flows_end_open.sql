DELETE FROM flows.open WHERE flow = ANY ($1::uuid[])
