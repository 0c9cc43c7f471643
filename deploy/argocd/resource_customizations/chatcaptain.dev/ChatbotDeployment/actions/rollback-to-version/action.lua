-- Rolls back to the named version. Lasts until the spec changes or the rollback is undone.
local version = actionParams["version"]
if version == nil or version == "" then
  error("Set version to the name of a ChatbotVersion or to the id of a version in the service.", 0)
end

obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/rollback-to"] = version
return obj
