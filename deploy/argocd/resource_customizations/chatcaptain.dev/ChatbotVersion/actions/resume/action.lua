-- Removes the field in place of setting it to false, so that the object is as before. If git sets spec.suspend, the
-- next sync restores it.
obj.spec.suspend = nil
return obj
