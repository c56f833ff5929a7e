-- What could drop or alter rows on their way into a table of the ledger, or hide those that are there,
-- and is none of the migrations'; and guards of the migrations that are off. Each with what removes it.
-- A trigger that runs after a row, or once a statement, can do neither, and is let be.
WITH tables AS (
    SELECT c.oid, c.relkind, c.relname, format('%I.%I', n.nspname, c.relname) AS name,
           c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'ledger' AND c.relkind NOT IN ('i', 'I', 'S', 'c', 't')),
triggers AS (
    SELECT t.tgname, t.tgenabled, tables.name,
           t.tgtype & 1 <> 0 AND t.tgtype & 66 <> 0 AS is_before_or_instead_of_a_row,
           tables.relname || ' ' || t.tgname = ANY (ARRAY[
               'accounts guard', 'accounts keep', 'accounts seal', 'chain_began keep', 'events keep',
               'flushes keep', 'flushes link', 'flushes refuse_time', 'freezes guard', 'freezes keep',
               'freezes tell', 'freezes whole', 'heartbeats record_drain', 'letter_acts keep',
               'moves guard', 'moves keep', 'moves tell', 'owners tell', 'ownership keep', 'plans keep',
               'posted keep', 'released keep', 'resolutions keep', 'settings keep', 'spent keep',
               'verifications keep', 'waiting keep']) AS is_ours
    FROM pg_trigger t JOIN tables ON tables.oid = t.tgrelid
    WHERE NOT t.tgisinternal)
SELECT format('the trigger %I on %s', tgname, name) AS object,
       format('DROP TRIGGER %I ON %s', tgname, name) AS undo
FROM triggers WHERE NOT is_ours AND tgenabled <> 'D' AND is_before_or_instead_of_a_row
UNION ALL
SELECT format('the trigger %I on %s, which is off', tgname, name),
       format('ALTER TABLE %s ENABLE TRIGGER %I', name, tgname)
FROM triggers WHERE is_ours AND tgenabled IN ('D', 'R')
UNION ALL
SELECT format('the rule %I on %s', w.rulename, tables.name),
       format('DROP RULE %I ON %s', w.rulename, tables.name)
FROM pg_rewrite w JOIN tables ON tables.oid = w.ev_class
WHERE w.ev_enabled <> 'D' AND (tables.relkind <> 'v' OR w.rulename <> '_RETURN')
UNION ALL
SELECT format('row security on %s', name),
       format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', name)
FROM tables WHERE relrowsecurity
ORDER BY 1
