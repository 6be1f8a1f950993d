--- Ghost text by `vim.lsp.inline_completion`, from Neovim 0.12.
---
--- Its public functions accept a whole suggestion. For words, lines and more suggestions this reads
--- Neovim's own state; where a later Neovim has none like it, these do nothing.

local magicoder = require("magicoder")
local text = require("magicoder.text")

local M = {}
local INVOKED = 1

--- Neovim's state of a buffer, or nil.
local function completor(buffer)
  local fine, found = pcall(function()
    return require("vim.lsp._capability").all.inline_completion.active[buffer]
  end)
  return fine and found or nil
end

--- Whether words, lines and more suggestions work in this Neovim.
function M.complete(buffer)
  local state = completor(buffer)
  return state ~= nil and state.client_state ~= nil and state.count_items ~= nil
end

---@return magicoder.Item?
local function current(state)
  local item = state and state.current
  if not item or type(item.insert_text) ~= "string" or not item.range then
    return nil
  end
  local row, col, end_row, end_col = item.range:to_extmark()
  return { text = item.insert_text, row = row, col = col, end_row = end_row, end_col = end_col }
end

--- Neovim shows what was suggested until the next answer, even when something else was typed.
local function moved(buffer)
  local state = completor(buffer)
  local item = current(state)
  if item and not text.rest(buffer, item) then
    state.current = nil
    state:hide()
  end
end

function M.attach(client, buffer)
  if magicoder.enabled then
    vim.lsp.inline_completion.enable(true, { bufnr = buffer })
  else
    vim.lsp.inline_completion.enable(false, { client_id = client.id })
  end
  vim.api.nvim_create_autocmd({ "CursorMovedI", "TextChangedI", "TextChangedP" }, {
    group = vim.api.nvim_create_augroup("magicoder.native" .. buffer, {}),
    buffer = buffer,
    callback = function()
      moved(buffer)
    end,
  })
end

function M.accept(buffer, part)
  local state = completor(buffer)
  local item = current(state)
  if not item then
    return part == "all" and vim.lsp.inline_completion.get({ bufnr = buffer })
  end
  local rest = text.rest(buffer, item)
  if not rest then
    return false
  end
  local native = state.current
  state:abort()
  text.insert(buffer, item, part)
  if part == "all" or text.head(rest, part) == rest then
    local client = native.command and vim.lsp.get_client_by_id(native.client_id)
    if client then
      client:exec_cmd(native.command, { bufnr = buffer })
    end
  else -- the rest stays, from the cursor on
    native.insert_text = rest:sub(#text.head(rest, part) + 1)
    local row, col = unpack(vim.api.nvim_win_get_cursor(0))
    native.range = vim.range(buffer, row - 1, col, row - 1, col)
    state.current = native
    state:show()
  end
  return true
end

function M.next(buffer)
  local state, client = completor(buffer), magicoder.client(buffer)
  if not state or not client then
    return false
  end
  if state:count_items() > 1 then
    vim.lsp.inline_completion.select()
    return true
  end
  local shown = state.current ~= nil
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = INVOKED }
  magicoder.request(client, "textDocument/inlineCompletion", params, function(err, result, context)
    state:handler(err, result, context)
    if shown then
      vim.lsp.inline_completion.select()
    end
  end, buffer)
  return true
end

function M.dismiss(buffer)
  local state = completor(buffer)
  if not state or not state.current then
    return false
  end
  state:abort()
  return true
end

function M.enable(on)
  for _, client in ipairs(vim.lsp.get_clients({ name = "magicoder" })) do
    vim.lsp.inline_completion.enable(on, { client_id = client.id })
    for buffer in pairs(on and client.attached_buffers or {}) do
      vim.lsp.inline_completion.enable(true, { bufnr = buffer })
    end
  end
end

return M
