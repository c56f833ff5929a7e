-- A digest of what the ledger is made of: tables, functions, triggers, constraints, indexes and views, and
-- of what is written but once.
SELECT sha256(convert_to(string_agg(line, E'\n' ORDER BY line COLLATE "C"), 'UTF8')) AS digest
FROM (
    SELECT 'function ' || pg_get_functiondef(p.oid) AS line
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('ledger', 'flows')
    UNION ALL
    SELECT 'trigger ' || pg_get_triggerdef(t.oid) || t.tgenabled::text
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('ledger', 'flows') AND NOT t.tgisinternal
    UNION ALL
    SELECT 'constraint ' || c.conrelid::regclass::text || ' ' || pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
    WHERE n.nspname IN ('ledger', 'flows')
    UNION ALL
    SELECT 'column ' || a.attrelid::regclass::text || ' ' || a.attname || ' '
           || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('ledger', 'flows') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'index ' || i.indexdef FROM pg_indexes i WHERE i.schemaname IN ('ledger', 'flows')
    UNION ALL
    SELECT 'view ' || v.viewname || v.definition FROM pg_views v
    WHERE v.schemaname IN ('ledger', 'flows')
    UNION ALL
    SELECT 'outcome ' || o.number || ' ' || o.name FROM ledger.outcomes o
    UNION ALL
    SELECT 'settings ' || s.shard_count || ' ' || s.identity FROM ledger.settings s) AS lines
