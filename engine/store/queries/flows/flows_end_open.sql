SELECT flows.end_open($1::uuid[])
