-- Marks the version that this environment runs as verified, for the deployments that are promoted after it.
obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/verified"] = obj.status.active.versionId
return obj
