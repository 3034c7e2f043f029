-- How Argo CD tells the health of a run. Its result is what `hs` says.
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

local health = {Succeeded = "Healthy", Failed = "Degraded", Suspended = "Suspended"}
hs.status = health[status.phase] or "Progressing"
-- These don't pass by themselves: somebody has to do something.
local stuck = {ImagePullFailed = true, ContainerConfigError = true}
if hs.status == "Progressing" and stuck[status.reason] then
  hs.status = "Degraded"
end

hs.message = status.message or status.phase
if status.phase == "Running" and status.progress ~= nil and status.progress.display ~= nil then
  hs.message = "Step " .. status.progress.display
  if status.progress.eta ~= nil and status.progress.eta ~= "" then
    hs.message = hs.message .. ", " .. status.progress.eta .. " to go"
  end
end
return hs
