SELECT flows.remove_schedule($1) AS is_removed
