-- Health as kstatus computes it, in its order: deleting, not looked at yet, Stalled, Reconciling, Ready.
-- Degraded fails a sync, so nothing is Degraded but Stalled: what comes right by itself is Progressing.
local health = {status = "Progressing", message = "The operator has not looked at this yet."}

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "It is being deleted."
  return health
end

local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type or ""] = condition
end

-- An object that is suspended keeps its last verdict; one that never had any says so itself.
local verdicts = {
  {condition = "Stalled", status = "True", health = "Degraded"},
  {condition = "Reconciling", status = "True", health = "Progressing"},
  {condition = "Ready", status = "True", health = "Healthy"},
  {condition = "Ready", status = "False", reason = "Suspended", health = "Suspended"},
}
for _, verdict in ipairs(verdicts) do
  local condition = conditions[verdict.condition]
  if condition ~= nil and condition.status == verdict.status
      and (verdict.reason == nil or verdict.reason == condition.reason) then
    return {status = verdict.health, message = condition.message or ""}
  end
end
return health
