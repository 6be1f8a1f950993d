--- What the server says about itself, for the status line.

local M = {}

---@class magicoder.Status
---@field state "starting"|"ready"|"working"|"failed"|"off"
---@field model? string
---@field message string

---@type table<integer, magicoder.Status> by client
M.latest = {}

---@type magicoder.Status? of a server that has ended unasked, until another one runs
local ended

---@type table<integer, table<string|integer, lsp.WorkDoneProgressBegin>> what runs, by client and token
local work = {}

--- The handler of magicoder/status.
function M.received(_, status, context)
  local model = status.model
  if model == vim.NIL then
    model = nil
  end
  local message = status.message or ""
  ended = nil
  M.latest[context.client_id] = { state = status.state, model = model, message = message }
  vim.cmd.redrawstatus({ bang = true })
end

--- The handler of $/progress; Neovim's own runs too.
function M.progress(err, params, context)
  local value, id = params.value, context.client_id
  work[id] = work[id] or {}
  if value.kind == "begin" then
    work[id][params.token] = value
    vim.notify(("magicoder: %s (:Magicoder cancel)"):format(value.title))
  elseif value.kind == "end" then
    work[id][params.token] = nil
    if not next(work[id]) then
      require("magicoder.documents").settle(id)
    end
  end
  vim.cmd.redrawstatus({ bang = true })
  return vim.lsp.handlers["$/progress"](err, params, context)
end

--- Ask the servers to stop what they are doing.
---@return boolean whether there was anything
function M.cancel()
  local found = false
  for id, tokens in pairs(work) do
    local client = vim.lsp.get_client_by_id(id)
    for token, value in pairs(client and tokens or {}) do
      if value.cancellable then
        found = true
        require("magicoder").notify(client, "window/workDoneProgress/cancel", { token = token })
      end
    end
  end
  return found
end

--- A server has ended.
function M.exited(id, code, signal)
  M.latest[id], work[id] = nil, nil
  if (code == 0 and signal == 0) or signal == 15 then
    return -- it was asked to
  end
  vim.schedule(function()
    if vim.v.exiting ~= vim.NIL then
      return
    end
    local how = signal ~= 0 and "by signal " .. signal or "with code " .. code
    local log = require("vim.lsp.log").get_filename()
    local message = ("the server ended %s (%s says more); :edit starts it again"):format(how, log)
    ended = { state = "failed", message = message }
    vim.notify("magicoder: " .. message, vim.log.levels.ERROR)
    vim.cmd.redrawstatus({ bang = true })
  end)
end

--- What a buffer's server has said last; where there is none, why it ended.
---@param client? vim.lsp.Client
---@return magicoder.Status?
function M.of(client)
  if client then
    return M.latest[client.id]
  end
  return vim.bo.buftype == "" and ended or nil
end

local marks = { starting = "…", working = "⋯", failed = "✗", off = "–" }

---@return string such as `smollm2-135m ⋯`
function M.line()
  local magicoder = require("magicoder")
  local client = magicoder.client()
  local status = M.of(client) or client and { state = "starting" }
  if not status then
    return ""
  end
  local name = status.model or "magicoder"
  local _, doing = next(client and work[client.id] or {})
  local mark = doing and doing.title
    or not magicoder.enabled and marks.off
    or marks[status.state]
  return mark and name .. " " .. mark or name
end

return M
