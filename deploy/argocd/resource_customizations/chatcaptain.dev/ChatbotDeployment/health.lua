-- Health as kstatus computes it, in the same order: deleting, not reconciled yet, Stalled, Reconciling, Ready.
-- Degraded fails a sync, so only Stalled is Degraded. Everything that resolves without a user is Progressing.
local health = {status = "Progressing", message = "Waiting for the operator to reconcile this object."}

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Being deleted."
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

-- A suspended object keeps its last conditions. One suspended before its first reconcile has Ready=False, Suspended.
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
