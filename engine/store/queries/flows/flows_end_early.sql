SELECT flows.end_early($1::uuid[])
