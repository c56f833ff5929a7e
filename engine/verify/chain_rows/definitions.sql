-- What the ledger is made of, an object a row: tables and their columns, constraints, indexes, triggers,
-- rules, policies, functions, views, sequences; and what is written but once.
WITH spaces AS (SELECT oid FROM pg_namespace WHERE nspname IN ('ledger', 'flows')),
relations AS (
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relnamespace IN (SELECT oid FROM spaces))
SELECT 'table ' || r.name AS object,
       concat_ws(' ', r.relkind, r.relpersistence, r.relrowsecurity, r.relforcerowsecurity,
                 (SELECT string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno)
                  FROM pg_inherits i WHERE i.inhrelid = r.oid),
                 (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = r.oid),
                 (SELECT count(*) FROM pg_trigger t
                  WHERE t.tgrelid = r.oid AND t.tgisinternal AND t.tgenabled <> 'O')) AS definition
FROM relations r
WHERE r.relkind NOT IN ('i', 'I', 'v', 'S', 'c')

UNION ALL

SELECT 'column ' || r.name || '.' || a.attname,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
                 a.attgenerated, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid))
FROM relations r
JOIN pg_attribute a ON a.attrelid = r.oid
LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
WHERE r.relkind NOT IN ('i', 'I', 'S', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped

UNION ALL

SELECT 'constraint ' || c.conname || ' on ' || r.name,
       pg_get_constraintdef(c.oid) || ' ' || c.convalidated
FROM pg_constraint c JOIN relations r ON r.oid = c.conrelid

UNION ALL

SELECT CASE WHEN x.indisunique THEN 'unique index ' ELSE 'index ' END || i.name,
       concat_ws(' ', pg_get_indexdef(i.oid), x.indisvalid, x.indisready, x.indislive)
FROM relations i JOIN pg_index x ON x.indexrelid = i.oid

UNION ALL

SELECT 'trigger ' || t.tgname || ' on ' || r.name, pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
FROM pg_trigger t JOIN relations r ON r.oid = t.tgrelid
WHERE NOT t.tgisinternal

UNION ALL

SELECT 'rule ' || w.rulename || ' on ' || r.name, pg_get_ruledef(w.oid) || ' ' || w.ev_enabled::text
FROM pg_rewrite w JOIN relations r ON r.oid = w.ev_class
WHERE r.relkind <> 'v' OR w.rulename <> '_RETURN'

UNION ALL

SELECT 'policy ' || p.polname || ' on ' || r.name,
       concat_ws(' ', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
                 pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p JOIN relations r ON r.oid = p.polrelid

UNION ALL

SELECT 'function ' || p.oid::regprocedure,
       CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) ELSE p.prokind::text END
FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM spaces)

UNION ALL

SELECT 'view ' || r.name, concat_ws(' ', pg_get_viewdef(r.oid), r.reloptions::text)
FROM relations r WHERE r.relkind IN ('v', 'm')

UNION ALL

SELECT 'sequence ' || r.name,
       concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcache,
                 s.seqcycle)
FROM pg_sequence s JOIN relations r ON r.oid = s.seqrelid

UNION ALL

SELECT 'outcome ' || o.number, o.name FROM ledger.outcomes o

UNION ALL

SELECT 'settings', s.shard_count || ' ' || s.identity FROM ledger.settings s
