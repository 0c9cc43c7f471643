local suspended = obj.spec.suspend == true
local annotations = obj.metadata.annotations or {}
local commanded = annotations["chatcaptain.dev/rollback-to"]
local status = obj.status or {}
local previous = status.previous

-- is there a version to name, that is not named already
local function names(annotation, version)
  return version ~= nil and annotations["chatcaptain.dev/" .. annotation] ~= version.versionId
end
local asks = ((obj.spec.promoteAfter or {}).approved == true) and names("approved", status.target)

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
  ["approve"] = {
    displayName = "Approve the version that waits",
    iconClass = "fa fa-fw fa-check",
    disabled = not asks,
  },
  ["verify"] = {
    displayName = "Mark the live version as verified",
    iconClass = "fa fa-fw fa-check-double",
    disabled = not names("verified", status.active),
  },
  ["reconcile"] = {displayName = "Reconcile now", iconClass = "fa fa-fw fa-sync", disabled = suspended},
  ["suspend"] = {displayName = "Suspend", iconClass = "fa fa-fw fa-pause-circle", disabled = suspended},
  ["resume"] = {displayName = "Resume", iconClass = "fa fa-fw fa-play-circle", disabled = not suspended},
}
