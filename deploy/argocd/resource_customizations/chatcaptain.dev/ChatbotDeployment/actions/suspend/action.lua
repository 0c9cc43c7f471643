-- Holds until it is resumed if the manifest in git does not mention spec.suspend. If it does, git decides: the
-- application becomes OutOfSync, and a sync or self-heal undoes this at once. Suspend in git then.
obj.spec.suspend = true
return obj
