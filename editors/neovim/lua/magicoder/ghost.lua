--- Ghost text of our own, for a Neovim without inline completion: until 0.11.

local magicoder = require("magicoder")
local text = require("magicoder.text")

local M = {}
local namespace = vim.api.nvim_create_namespace("magicoder")
local AUTOMATIC, INVOKED = 2, 1
local inline = vim.fn.has("nvim-0.10") == 1

---@class magicoder.Shown
---@field client vim.lsp.Client
---@field items magicoder.Item[]
---@field index integer
---@field request? integer the one that has no answer yet
---@field asked? string where and when it was asked last

---@type table<integer, magicoder.Shown>
local shown = {}

local function clear(buffer)
  vim.api.nvim_buf_clear_namespace(buffer, namespace, 0, -1)
end

--- Draw what is left of the current item at the cursor.
local function show(buffer)
  clear(buffer)
  local item = shown[buffer].items[shown[buffer].index]
  local rest = item and text.rest(buffer, item)
  if not rest then
    shown[buffer].items = {}
    return
  end
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  row = row - 1
  local tab = string.rep(" ", vim.bo[buffer].tabstop)
  local lines = vim.split(rest:gsub("\t", tab), "\n", { plain = true })
  local chunks = { { lines[1], "MagicoderGhost" } }
  local replaces = item.end_row == row and item.end_col > col
  if not inline and not replaces then -- what follows the cursor must not be covered
    local line = vim.api.nvim_get_current_line()
    chunks[2] = { line:sub(col + 1), "Normal" }
  end
  local below = {}
  for i = 2, #lines do
    below[#below + 1] = { { lines[i], "MagicoderGhost" } }
  end
  vim.api.nvim_buf_set_extmark(buffer, namespace, row, col, {
    virt_text = chunks,
    virt_text_pos = inline and not replaces and "inline" or "overlay",
    virt_lines = below,
    hl_mode = "combine",
  })
end

local function cancel(state)
  if state.request then
    magicoder.cancel(state.client, state.request)
    state.request = nil
  end
end

--- Ask for suggestions at the cursor; the request before is taken back.
---@param kind integer how it came about
---@param index? integer which one to show first
local function ask(buffer, kind, index)
  local state = shown[buffer]
  cancel(state)
  local encoding = state.client.offset_encoding
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local params = {
    textDocument = { uri = vim.uri_from_bufnr(buffer) },
    position = text.position(buffer, row - 1, col, encoding),
    context = { triggerKind = kind },
  }
  local asked = state.asked
  local id
  id = magicoder.request(state.client, "textDocument/inlineCompletion", params, function(err, found)
    if shown[buffer] ~= state or state.request ~= id then
      return -- replaced
    end
    state.request = nil
    local typing = vim.startswith(vim.api.nvim_get_mode().mode, "i")
    if err or not typing or state.asked ~= asked then
      return
    end
    state.items = {}
    for _, item in ipairs(found and (found.items or found) or {}) do
      local range = item.range or { start = params.position, ["end"] = params.position }
      table.insert(state.items, {
        text = item.insertText,
        row = range.start.line,
        col = text.column(buffer, range.start, encoding),
        end_row = range["end"].line,
        end_col = text.column(buffer, range["end"], encoding),
      })
    end
    state.index = math.min(index or 1, math.max(#state.items, 1))
    show(buffer)
  end, buffer)
  state.request = id
end

--- The cursor has moved or the text has changed: keep what still fits, ask for the rest.
local function moved(buffer)
  local state = shown[buffer]
  if not state or not magicoder.enabled then
    return
  end
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local now = ("%d:%d:%d"):format(vim.api.nvim_buf_get_changedtick(buffer), row, col)
  if state.asked == now then
    return -- one keystroke raises several events
  end
  state.asked = now
  show(buffer)
  ask(buffer, AUTOMATIC)
end

local function stop(buffer)
  local state = shown[buffer]
  if state then
    cancel(state)
    state.items, state.asked = {}, nil
    clear(buffer)
  end
end

function M.attach(client, buffer)
  shown[buffer] = { client = client, items = {}, index = 1 }
  local group = vim.api.nvim_create_augroup("magicoder.ghost" .. buffer, {})
  vim.api.nvim_create_autocmd({ "InsertEnter", "CursorMovedI", "TextChangedI", "TextChangedP" }, {
    group = group,
    buffer = buffer,
    callback = function()
      moved(buffer)
    end,
  })
  vim.api.nvim_create_autocmd({ "InsertLeave", "BufLeave" }, {
    group = group,
    buffer = buffer,
    callback = function()
      stop(buffer)
    end,
  })
  vim.api.nvim_create_autocmd({ "LspDetach" }, {
    group = group,
    buffer = buffer,
    callback = function(event)
      if event.data.client_id == client.id then
        clear(buffer)
        shown[buffer] = nil
        pcall(vim.api.nvim_del_augroup_by_id, group)
      end
    end,
  })
end

function M.accept(buffer, part)
  local state = shown[buffer]
  local item = state and state.items[state.index]
  return item ~= nil and text.insert(buffer, item, part)
end

function M.next(buffer)
  local state = shown[buffer]
  if not state then
    return false
  end
  if #state.items > 1 then
    state.index = state.index % #state.items + 1
    show(buffer)
  else
    ask(buffer, INVOKED, #state.items + 1)
  end
  return true
end

function M.dismiss(buffer)
  local state = shown[buffer]
  if not state or #state.items == 0 then
    return false
  end
  state.items = {}
  cancel(state)
  clear(buffer)
  return true
end

function M.enable(on)
  for buffer in pairs(shown) do
    if not vim.api.nvim_buf_is_valid(buffer) then
      shown[buffer] = nil -- wiped out
    elseif not on then
      stop(buffer)
    end
  end
end

return M
