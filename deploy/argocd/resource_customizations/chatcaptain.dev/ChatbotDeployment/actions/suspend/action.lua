-- Lasts until it is resumed, if the manifest in git does not set spec.suspend. If it does, the application becomes
-- OutOfSync, and the next sync or self-heal reverts this: suspend in git instead.
obj.spec.suspend = true
return obj
