-- Whether this role sees what lies beneath the views, as roles do that write.
SELECT has_table_privilege('ledger.spent', 'SELECT')
