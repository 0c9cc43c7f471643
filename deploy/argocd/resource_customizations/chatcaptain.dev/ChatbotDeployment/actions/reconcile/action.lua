-- Reconciles now and ends any backoff. Git does not hold this annotation, so the application stays Synced.
local os = require("os")

obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["chatcaptain.dev/reconcile-requested-at"] = os.date("!%Y-%m-%dT%XZ")
return obj
