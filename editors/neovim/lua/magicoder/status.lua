--- What the server says about itself, for the status line.

local M = {}

---@class magicoder.Status
---@field state "starting"|"ready"|"working"|"failed"|"off"
---@field model? string
---@field message string

---@type table<integer, magicoder.Status> by client
M.latest = {}

---@type table<string|integer, string> what the server is doing, by progress token
local titles = {}

--- The handler of magicoder/status.
function M.received(_, status, context)
  local model = status.model
  if model == vim.NIL then
    model = nil
  end
  local message = status.message or ""
  M.latest[context.client_id] = { state = status.state, model = model, message = message }
  vim.cmd.redrawstatus({ bang = true })
end

--- The handler of $/progress; Neovim's own runs too.
function M.progress(err, params, context)
  local value = params.value
  if value.kind == "begin" then
    titles[params.token] = value.title
    vim.notify(("magicoder: %s (:Magicoder cancel)"):format(value.title))
  elseif value.kind == "end" then
    titles[params.token] = nil
  end
  vim.cmd.redrawstatus({ bang = true })
  return vim.lsp.handlers["$/progress"](err, params, context)
end

--- A server has ended.
function M.exited(id, code, signal)
  M.latest[id], titles = nil, {}
  if code ~= 0 and signal ~= 15 then
    vim.schedule(function()
      local what = ("magicoder lsp ended with code %d: %s says more"):format(
        code,
        require("vim.lsp.log").get_filename()
      )
      vim.notify(what, vim.log.levels.ERROR)
    end)
  end
end

local marks = { starting = "…", working = "⋯", failed = "✗", off = "–" }

---@return string such as `smollm2-135m ⋯`
function M.line()
  local magicoder = require("magicoder")
  local client = magicoder.client()
  if not client then
    return ""
  end
  local status = M.latest[client.id] or { state = "starting" }
  local name = status.model or "magicoder"
  local mark = next(titles) and titles[next(titles)]
    or not magicoder.enabled and marks.off
    or marks[status.state]
  return mark and name .. " " .. mark or name
end

return M
