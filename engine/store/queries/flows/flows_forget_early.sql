SELECT flows.forget_early($1::bigint[])
