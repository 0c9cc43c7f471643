-- The operator looks at once, past any backoff. Git holds no such annotation, so nothing becomes OutOfSync.
local os = require("os")

obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/reconcile-requested-at"] = os.date("!%Y-%m-%dT%XZ")
return obj
