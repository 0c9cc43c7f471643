local suspended = obj.spec.suspend == true

return {
  ["reconcile"] = {displayName = "Reconcile now", iconClass = "fa fa-fw fa-sync", disabled = suspended},
  ["suspend"] = {displayName = "Suspend", iconClass = "fa fa-fw fa-pause-circle", disabled = suspended},
  ["resume"] = {displayName = "Resume", iconClass = "fa fa-fw fa-play-circle", disabled = not suspended},
}
