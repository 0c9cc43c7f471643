-- Returns to the version in the spec, in the same way as a change of the spec.
if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["chatcaptain.dev/rollback-to"] = nil
end
return obj
