--- Ghost text and instruct tools of `magicoder lsp`. Start with `require("magicoder").setup()`.

local M = {}

---@class magicoder.Config
---@field cmd string[] the language server
---@field filetypes? string[] where it runs; nil: everywhere
---@field root_markers string[] a folder that has one of these is a workspace
---@field keys table<string, string|false>|false what each action is mapped to
---@field options table the server's own settings, sent as initializationOptions

local defaults = {
  cmd = { "magicoder", "lsp" },
  root_markers = { ".git" },
  keys = {
    accept = "<Tab>",
    accept_word = "<C-Right>",
    accept_line = "<C-Down>",
    next = "<M-]>",
    dismiss = "<C-]>",
  },
}

---@type magicoder.Config?
M.config = nil
M.enabled = true

--- Whether this Neovim has inline completion of its own.
M.native = vim.lsp.inline_completion ~= nil

--- How ghost text is shown here.
local function ghost()
  return require(M.native and "magicoder.native" or "magicoder.ghost")
end

local function list(value)
  if type(value) ~= "table" or #value == 0 then
    return false
  end
  for _, item in pairs(value) do
    if type(item) ~= "string" then
      return false
    end
  end
  return true
end

--- What is wrong with the plugin's own options, or nil.
---@return string?
local function fault(given)
  if type(given) ~= "table" then
    return "setup() takes a table"
  elseif given.cmd ~= nil and type(given.cmd) ~= "function" and not list(given.cmd) then
    return 'cmd must be a list of words, such as { "magicoder", "lsp" }'
  elseif given.filetypes ~= nil and not list(given.filetypes) then
    return 'filetypes must be a list of names, such as { "python" }'
  elseif given.root_markers ~= nil and not list(given.root_markers) then
    return 'root_markers must be a list of names, such as { ".git" }'
  elseif given.keys and type(given.keys) ~= "table" then
    return 'keys must be false or a table, such as { accept = "<C-l>" }'
  end
  for name, key in pairs(given.keys or {}) do
    if not defaults.keys[name] then
      local names = vim.tbl_keys(defaults.keys)
      table.sort(names)
      return ("keys has no '%s', only %s"):format(name, table.concat(names, ", "))
    elseif key and type(key) ~= "string" then
      return ("keys.%s must be a key, such as '<C-l>', or false"):format(name)
    end
  end
end

---@param given? table
---@return magicoder.Config
local function configuration(given)
  local config = vim.deepcopy(defaults)
  config.options = {}
  for key, value in pairs(given or {}) do
    if key == "keys" then
      config.keys = value and vim.tbl_extend("force", config.keys, value)
    elseif key == "cmd" or key == "filetypes" or key == "root_markers" then
      config[key] = value
    else
      config.options[key] = value -- a key that it does not know, the server names
    end
  end
  return config
end

---@param config magicoder.Config
local function client_config(config)
  local capabilities = vim.lsp.protocol.make_client_capabilities()
  capabilities.textDocument.inlineCompletion = { dynamicRegistration = false }
  capabilities.experimental = { magicoder = { status = true } }
  -- True of every version: the handler below asks.
  capabilities.workspace.workspaceEdit.changeAnnotationSupport = { groupsOnLabel = true }
  return {
    name = "magicoder",
    cmd = config.cmd,
    filetypes = config.filetypes,
    root_markers = config.root_markers,
    reuse_client = require("magicoder.documents").reuse,
    init_options = next(config.options) and config.options or nil,
    capabilities = capabilities,
    handlers = {
      ["workspace/applyEdit"] = require("magicoder.edits").apply,
      ["window/showDocument"] = require("magicoder.documents").show,
      ["magicoder/status"] = require("magicoder.status").received,
      ["$/progress"] = require("magicoder.status").progress,
    },
    on_exit = function(code, signal, id)
      require("magicoder.status").exited(id, code, signal)
    end,
  }
end

--- Whether the server's program is there.
local function executable(config)
  return type(config.cmd) == "function" or vim.fn.executable(config.cmd[1]) == 1
end

--- Let `:help magicoder` work where no plugin manager has seen to it.
local function help()
  local doc = vim.fn.fnamemodify(debug.getinfo(1, "S").source:sub(2), ":p:h:h:h") .. "/doc"
  if vim.fn.filereadable(doc .. "/tags") == 0 and vim.fn.filewritable(doc) == 2 then
    pcall(vim.cmd.helptags, vim.fn.fnameescape(doc))
  end
end

--- Start the server for a buffer, where Neovim does not do so by itself.
local function start(config, buffer)
  if vim.bo[buffer].buftype ~= "" or not executable(config) then
    return
  end
  if config.filetypes and not vim.tbl_contains(config.filetypes, vim.bo[buffer].filetype) then
    return
  end
  local client = client_config(config)
  local name = vim.api.nvim_buf_get_name(buffer)
  local folder = name == "" and vim.fn.getcwd() or vim.fs.dirname(name)
  local marker = vim.fs.find(config.root_markers, { upward = true, path = folder })[1]
  client.root_dir = marker and vim.fs.dirname(marker) or nil
  vim.lsp.start(client, { bufnr = buffer, reuse_client = client.reuse_client })
end

--- Begin: run the server in every file that fits, show ghost text, map the keys.
---@param given? table the plugin's `cmd`, `filetypes`, `root_markers`, `keys`; the rest is the server's
function M.setup(given)
  local wrong = fault(given or {})
  if wrong then
    vim.notify("magicoder: " .. wrong, vim.log.levels.ERROR)
    return
  end
  local config = configuration(given)
  M.config = config
  help()
  if not executable(config) then
    local what = "magicoder: `%s` is not found: :checkhealth magicoder says what to do"
    vim.notify(what:format(config.cmd[1]), vim.log.levels.ERROR)
  end
  local group = vim.api.nvim_create_augroup("magicoder", {})
  vim.api.nvim_create_autocmd("LspAttach", {
    group = group,
    callback = function(event)
      local client = vim.lsp.get_client_by_id(event.data.client_id)
      if client and client.name == "magicoder" then
        ghost().attach(client, event.buf)
        require("magicoder.keys").map(event.buf, config.keys)
      end
    end,
  })
  if M.native then
    vim.lsp.config("magicoder", client_config(config))
    vim.lsp.enable("magicoder")
    return
  end
  vim.api.nvim_create_autocmd("FileType", {
    group = group,
    callback = function(event)
      start(config, event.buf)
    end,
  })
  if vim.v.vim_did_enter == 0 then
    return -- what is opened later has the event
  end
  for _, buffer in ipairs(vim.api.nvim_list_bufs()) do
    if vim.api.nvim_buf_is_loaded(buffer) then
      start(config, buffer)
    end
  end
end

--- Insert the ghost text, or its next word or line.
---@param part? "all"|"word"|"line"
---@return boolean whether there was any
function M.accept(part)
  return ghost().accept(vim.api.nvim_get_current_buf(), part or "all")
end

--- Show another suggestion; asks for more where there is one or none.
---@return boolean whether this buffer has the server
function M.next()
  return ghost().next(vim.api.nvim_get_current_buf())
end

--- Take the ghost text away.
---@return boolean whether there was any
function M.dismiss()
  return ghost().dismiss(vim.api.nvim_get_current_buf())
end

--- Switch ghost text on or off, everywhere.
---@param on? boolean
function M.enable(on)
  M.enabled = on ~= false
  ghost().enable(M.enabled)
end

--- For the status line: the model and what it is doing; empty where the server does not run.
---@return string
function M.status()
  return require("magicoder.status").line()
end

--- The server of this buffer.
---@param buffer? integer
---@return vim.lsp.Client?
function M.client(buffer)
  local clients = vim.lsp.get_clients or vim.lsp.get_active_clients -- the latter until 0.9
  return clients({ name = "magicoder", bufnr = buffer or vim.api.nvim_get_current_buf() })[1]
end

--- Call a method of a client, which took no self until 0.10.
local function call(client, method, ...)
  if vim.fn.has("nvim-0.11") == 1 then
    return client[method](client, ...)
  end
  return client[method](...)
end

--- Send a request.
---@return integer? id
function M.request(client, method, params, handler, buffer)
  local sent, id = call(client, "request", method, params, handler, buffer)
  return sent and id or nil
end

--- Take a request back.
function M.cancel(client, id)
  call(client, "cancel_request", id)
end

--- Send a notification.
function M.notify(client, method, params)
  call(client, "notify", method, params)
end

return M
