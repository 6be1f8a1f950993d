--- `:checkhealth magicoder`

local M = {}

-- Until 0.9 their names began with `report_`.
local start = vim.health.start or vim.health.report_start
local ok = vim.health.ok or vim.health.report_ok
local info = vim.health.info or vim.health.report_info
local warn = vim.health.warn or vim.health.report_warn
local fail = vim.health.error or vim.health.report_error

local function neovim(magicoder)
  local version = tostring(vim.version())
  if vim.fn.has("nvim-0.9") == 0 then
    fail("Neovim " .. version .. " is too old", "install 0.9 or newer")
  elseif magicoder.native then
    ok("Neovim " .. version .. ": ghost text by vim.lsp.inline_completion")
  elseif vim.fn.has("nvim-0.10") == 1 then
    ok("Neovim " .. version .. ": ghost text by the plugin")
  else
    warn("Neovim " .. version .. ": ghost text inside a line covers it until 0.10")
  end
end

--- The program without what follows it: `magicoder`, or `python -m magicoder`.
local function magicoder_itself(cmd)
  local base = {}
  for _, word in ipairs(cmd) do
    if word == "lsp" then
      break
    end
    base[#base + 1] = word
  end
  return base
end

--- The lines of `magicoder doctor` about the server.
local function doctor(base, options)
  local env = {}
  for _, key in ipairs({ "base_url", "api_key", "model", "timeout" }) do
    if options[key] ~= nil then
      env["MAGICODER_" .. key:upper()] = tostring(options[key])
    end
  end
  local lines = {}
  local job = vim.fn.jobstart(vim.list_extend(vim.deepcopy(base), { "doctor" }), {
    env = next(env) and env or nil, -- an empty one is an error
    stdout_buffered = true,
    on_stdout = function(_, data)
      lines = data
    end,
  })
  if vim.fn.jobwait({ job }, 60000)[1] < 0 then
    vim.fn.jobstop(job)
    return {}
  end
  local found, section = {}, nil
  for _, line in ipairs(lines) do
    section = line:match("^(%u%l+)$") or section
    local mark, what = line:match("^  (%S%S) (.+)$")
    if mark and section == "Server" then
      found[#found + 1] = { mark = mark, text = what:gsub("%s+", " ") }
    end
  end
  return found
end

local function program(config)
  if type(config.cmd) == "function" then
    info("`cmd` is a function: the program is not checked")
    return
  end
  local cmd, base = config.cmd[1], magicoder_itself(config.cmd)
  if vim.fn.executable(cmd) == 0 then
    fail(("`%s` is not found"):format(cmd), {
      "pip install 'magicoder[lsp]'",
      'or set its path: require("magicoder").setup({ cmd = { "/path/to/magicoder", "lsp" } })',
    })
    return
  end
  local version = vim.trim(vim.fn.system(vim.list_extend(vim.deepcopy(base), { "--version" })))
  if vim.v.shell_error ~= 0 then
    fail(("`%s --version` failed: %s"):format(cmd, version))
    return
  end
  ok(("%s (%s)"):format(version, vim.fn.exepath(cmd)))
  local found = doctor(base, config.options)
  if #found == 0 then
    warn("`magicoder doctor` says nothing of the server: run it in a terminal")
  end
  for _, line in ipairs(found) do
    local say = line.mark == "ok" and ok or line.mark == "--" and warn or fail
    say(line.text)
  end
end

local function clients(magicoder)
  local all = (vim.lsp.get_clients or vim.lsp.get_active_clients)({ name = "magicoder" })
  if #all == 0 then
    warn("the language server does not run", {
      "open a file of a kind that it serves",
      "look into " .. require("vim.lsp.log").get_filename(),
    })
  end
  for _, client in ipairs(all) do
    local buffers = vim.tbl_count(client.attached_buffers or {})
    local root = client.config.root_dir or "no folder"
    ok(("the language server runs for %d file(s) in %s"):format(buffers, root))
    local status = require("magicoder.status").latest[client.id]
    if status and status.state == "failed" then
      fail("it says: " .. status.message)
    elseif status then
      ok(("it is %s, with %s"):format(status.state, status.model or "no model yet"))
    else
      info("it has not said yet which model it uses")
    end
    local buffer = next(client.attached_buffers or {})
    if magicoder.enabled and magicoder.native and buffer and not require("magicoder.native").complete(buffer) then
      warn("this Neovim shows no state of its inline completion: words, lines and more suggestions do not work")
    end
  end
end

local function keys(config)
  if not config.keys then
    info("no keys are mapped: map require('magicoder').accept and others yourself")
    return
  end
  local parts = {}
  for name, key in pairs(config.keys) do
    parts[#parts + 1] = ("%s %s"):format(name, key or "unmapped")
  end
  table.sort(parts)
  ok("keys: " .. table.concat(parts, ", "))
end

function M.check()
  local magicoder = require("magicoder")
  start("magicoder")
  neovim(magicoder)
  if not magicoder.config then
    fail("it was not set up", 'put require("magicoder").setup() into init.lua')
    return
  end
  program(magicoder.config)
  clients(magicoder)
  keys(magicoder.config)
  if not magicoder.enabled then
    info("ghost text is switched off: `:Magicoder enable`")
  end
end

return M
