-- Holds until git moves or it is undone. Git holds no such annotation, so self-heal leaves it alone.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/rollback-to"] = "previous"
return obj
