-- Rolls back to the version that ran before. Lasts until the spec changes or the rollback is undone. Git does not hold
-- this annotation, so self-heal leaves it alone.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/rollback-to"] = "previous"
return obj
