-- How Argo CD tells the health of a service. Its result is what `hs` says.
local hs = {status = "Progressing", message = "The operator has not looked at it yet."}
local status = obj.status
if status == nil or status.phase == nil then
  return hs
end
if status.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and status.observedGeneration < obj.metadata.generation then
  hs.message = "The operator has not looked at the newest change yet."
  return hs
end

local health = {Ready = "Healthy", Idle = "Healthy", Degraded = "Degraded", Stopped = "Suspended"}
hs.status = health[status.phase] or "Progressing"
-- These don't pass by themselves: somebody has to do something.
local stuck = {WrongFormat = true, NotEnoughMemory = true}
if stuck[status.reason] then
  hs.status = "Degraded"
end
-- A conflict over a name, or a bug of the operator, stands in a condition of its own.
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Reconciled" and condition.status == "False" then
    hs.status = "Degraded"
    hs.message = condition.message
    return hs
  end
end
hs.message = status.message or status.phase
return hs
