-- The name of a ChatbotVersion or the id of a version. Holds until git moves or it is undone.
local version = actionParams["version"]
if version == nil or version == "" then
  error("version: the name of a ChatbotVersion, or the id of a version in the service", 0)
end

obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/rollback-to"] = version
return obj
