-- Approves the version that this object is to run. It is bound to that version: the next one needs its own approval.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/approved"] = obj.status.target.versionId
return obj
