SELECT definition, name, version, source::text AS source, accounts::text AS accounts
FROM flows.definitions WHERE definition > $1 ORDER BY definition
