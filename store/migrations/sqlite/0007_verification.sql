-- What was found out about a schema's rows before they were put in place, as JSON; null where
-- nobody asked.
ALTER TABLE schema_executions ADD COLUMN verification TEXT;
