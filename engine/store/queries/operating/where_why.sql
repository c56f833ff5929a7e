-- Why a transfer was declined for want of funds; no row where it was not.
SELECT w.account_id::text AS account, a.name AS account_name, w.asked::text AS asked,
       w.available::text AS available, w.exact
FROM ledger.why_declined($1) w JOIN ledger.accounts a ON a.id = w.account_id
