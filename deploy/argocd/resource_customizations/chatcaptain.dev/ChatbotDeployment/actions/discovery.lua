local suspended = obj.spec.suspend == true
local commanded = (obj.metadata.annotations or {})["chatcaptain.dev/rollback-to"]
local previous = (obj.status or {}).previous

return {
  -- the operator acts on a new value only: to repeat a rollback, undo it first
  ["rollback-to-previous"] = {
    displayName = "Roll back to the previous version",
    iconClass = "fa fa-fw fa-undo",
    disabled = suspended or previous == nil or commanded == "previous",
  },
  ["rollback-to-version"] = {
    displayName = "Roll back to a given version",
    iconClass = "fa fa-fw fa-history",
    disabled = suspended,
    params = {{name = "version"}},
  },
  ["undo-rollback"] = {
    displayName = "Undo rollback",
    iconClass = "fa fa-fw fa-redo",
    disabled = commanded == nil,
  },
  ["reconcile"] = {displayName = "Reconcile now", iconClass = "fa fa-fw fa-sync", disabled = suspended},
  ["suspend"] = {displayName = "Suspend", iconClass = "fa fa-fw fa-pause-circle", disabled = suspended},
  ["resume"] = {displayName = "Resume", iconClass = "fa fa-fw fa-play-circle", disabled = not suspended},
}
