-- Back to what git says, by the same way as any other change of git.
if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["chatcaptain.dev/rollback-to"] = nil
end
return obj
