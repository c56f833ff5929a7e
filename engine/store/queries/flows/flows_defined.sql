SELECT name, version, hash, source::text AS source, defined_at,
       (SELECT count(*) FROM flows.open o JOIN flows.flows f ON f.id = o.flow
        WHERE f.definition = d.definition) AS open
FROM flows.definitions d
WHERE ($1::text IS NULL OR name = $1) AND ($2::integer IS NULL OR version = $2)
ORDER BY name, version
