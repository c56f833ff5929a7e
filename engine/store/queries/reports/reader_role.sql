-- The role of this ledger's readers, where it is there and this role may take it on.
SELECT r.role FROM ledger.roles r JOIN pg_catalog.pg_roles p ON p.rolname = r.role
WHERE r.kind = 'reader' AND pg_has_role(p.oid, 'MEMBER')
