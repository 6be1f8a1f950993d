--- `:Magicoder`: the instruct tools, and switching ghost text on and off.

local magicoder = require("magicoder")
local text = require("magicoder.text")

local M = {}

--- What is running, so that it can be cancelled.
---@type { client: vim.lsp.Client, id: integer }?
local running

local function say(message, level)
  vim.notify("magicoder: " .. message, level or vim.log.levels.INFO)
end

--- Run a command of the server.
local function execute(client, command, arguments)
  local params = { command = command, arguments = arguments }
  local this = { client = client }
  this.id = magicoder.request(client, "workspace/executeCommand", params, function(err)
    if running == this then
      running = nil
    end
    if err and err.code ~= -32800 then -- cancelled
      say(err.message, vim.log.levels.ERROR)
    end
  end, 0)
  running = this
end

--- The selected code of a `:Magicoder` with a range; without one, the empty range at the cursor.
local function chosen(call, encoding)
  local buffer = vim.api.nvim_get_current_buf()
  if call.range == 0 then
    local row, col = unpack(vim.api.nvim_win_get_cursor(0))
    local at = text.position(buffer, row - 1, col, encoding)
    return { start = at, ["end"] = at }
  end
  local from, to = vim.fn.getpos("'<"), vim.fn.getpos("'>")
  local visual = call.line1 == from[2] and call.line2 == to[2]
  if visual and vim.fn.visualmode() == "v" then
    local line = vim.api.nvim_buf_get_lines(buffer, to[2] - 1, to[2], false)[1] or ""
    local last = math.min(to[3], #line)
    local past = last + #vim.fn.matchstr(line:sub(math.max(last, 1)), "^.") - 1
    return {
      start = text.position(buffer, from[2] - 1, from[3] - 1, encoding),
      ["end"] = text.position(buffer, to[2] - 1, past, encoding),
    }
  end
  return {
    start = { line = call.line1 - 1, character = 0 },
    ["end"] = { line = call.line2, character = 0 },
  }
end

--- The editor's diagnostics in some lines, as LSP has them.
local function diagnostics(range, encoding)
  local buffer, found = vim.api.nvim_get_current_buf(), {}
  for _, diagnostic in ipairs(vim.diagnostic.get(buffer)) do
    local last = diagnostic.end_lnum or diagnostic.lnum
    if diagnostic.lnum <= range["end"].line and last >= range.start.line then
      local col = diagnostic.end_col or diagnostic.col
      found[#found + 1] = {
        range = {
          start = text.position(buffer, diagnostic.lnum, diagnostic.col, encoding),
          ["end"] = text.position(buffer, last, col, encoding),
        },
        message = diagnostic.message,
        severity = diagnostic.severity,
        source = diagnostic.source,
        code = diagnostic.code,
      }
    end
  end
  return found
end

--- Commands that take code: their name and what follows the range in their arguments.
local on_code = {
  explain = "magicoder.explain",
  solve = "magicoder.solve",
  document = "magicoder.document",
  tests = "magicoder.writeTests",
  problem = "magicoder.createProblem",
}

--- Commands that take the whole document.
local on_document = {
  verify = "magicoder.verifyProblem",
  dataset = "magicoder.addToDataset",
  run = "magicoder.runTests",
}

local actions = {}

for name, command in pairs(on_code) do
  actions[name] = function(client, uri, range)
    execute(client, command, { uri, range })
  end
end

for name, command in pairs(on_document) do
  actions[name] = function(client, uri)
    execute(client, command, { uri })
  end
end

function actions.fix(client, uri, range)
  local found = diagnostics(range, client.offset_encoding)
  if #found == 0 then
    say("no diagnostic here", vim.log.levels.WARN)
    return
  end
  execute(client, "magicoder.fix", { uri, range, found })
end

function actions.refactor(client, uri, range, words)
  local function go(instruction)
    if instruction then -- nil: the question was left
      execute(client, "magicoder.refactor", { uri, range, instruction })
    end
  end
  if words ~= "" then
    go(words)
  else
    vim.ui.input({ prompt = "Refactor (nothing: as the nearest comment asks): " }, go)
  end
end

local switches = {
  enable = function()
    magicoder.enable(true)
  end,
  disable = function()
    magicoder.enable(false)
  end,
  toggle = function()
    magicoder.enable(not magicoder.enabled)
    say(magicoder.enabled and "on" or "off")
  end,
  cancel = function()
    local stopped = require("magicoder.status").cancel()
    if running then
      magicoder.cancel(running.client, running.id)
      running = nil
    elseif not stopped then
      say("nothing is running")
    end
  end,
  status = function()
    local client = magicoder.client()
    local status = require("magicoder.status").of(client)
    if not status then
      say(client and "no word from the server yet" or "no server for this file: :checkhealth magicoder")
    else
      say(vim.trim(("%s, %s %s"):format(status.state, status.model or "no model", status.message)))
    end
  end,
}

--- `:Magicoder NAME ...`
function M.run(call)
  local name = call.fargs[1]
  if switches[name] then
    switches[name]()
    return
  end
  local action, client = actions[name], magicoder.client()
  if not action then
    say(("unknown command '%s'"):format(name), vim.log.levels.ERROR)
  elseif not client then
    say("no server for this file: :checkhealth magicoder", vim.log.levels.ERROR)
  else
    local range = chosen(call, client.offset_encoding)
    action(client, vim.uri_from_bufnr(0), range, vim.trim(call.args:sub(#name + 1)))
  end
end

--- The names that begin with what is typed.
function M.complete(lead, line)
  if line:match("Magicoder%s+%S+%s") then
    return {}
  end
  local names = vim.tbl_keys(vim.tbl_extend("error", actions, switches))
  table.sort(names)
  return vim.tbl_filter(function(name)
    return vim.startswith(name, lead)
  end, names)
end

return M
