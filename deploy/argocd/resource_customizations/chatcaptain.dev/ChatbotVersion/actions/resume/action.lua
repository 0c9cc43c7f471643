-- Removed and not set to false: nothing is left behind. What git says of spec.suspend comes back with the next sync.
obj.spec.suspend = nil
return obj
