--- Keys that act on ghost text, and do what they did before where there is none.

local M = {}

--- The mapping of a key in insert mode, of this buffer or of all.
local function mapping(keys, found)
  local raw = vim.api.nvim_replace_termcodes(keys, true, true, true)
  for _, map in ipairs(found) do
    if map.lhs == keys or map.lhsraw == raw or map.lhsrawalt == raw then
      return map
    end
  end
end

local function feed(keys, mode)
  keys = vim.api.nvim_replace_termcodes(keys, true, true, true)
  vim.api.nvim_feedkeys(keys, mode .. "i", false)
end

--- Do what a key did before.
local function former(keys, own)
  local map = own or mapping(keys, vim.api.nvim_get_keymap("i")) -- it may have been set since
  if not map then
    feed(keys, "n")
    return
  end
  local rhs = map.rhs
  if map.callback then
    rhs = map.callback()
  elseif map.expr == 1 then
    rhs = vim.api.nvim_eval(rhs)
  end
  if type(rhs) == "string" and rhs ~= "" and (map.expr == 1 or not map.callback) then
    feed(rhs, map.noremap == 1 and "n" or "m")
  end
end

---@param buffer integer
---@param keys table<string, string|false>|false
function M.map(buffer, keys)
  if not keys or vim.b[buffer].magicoder_mapped then
    return
  end
  vim.b[buffer].magicoder_mapped = true
  local magicoder = require("magicoder")
  local actions = {
    accept = { magicoder.accept, "Accept the ghost text" },
    accept_word = {
      function()
        return magicoder.accept("word")
      end,
      "Accept a word of the ghost text",
    },
    accept_line = {
      function()
        return magicoder.accept("line")
      end,
      "Accept a line of the ghost text",
    },
    next = { magicoder.next, "Show another suggestion" },
    dismiss = { magicoder.dismiss, "Dismiss the ghost text" },
  }
  for name, action in pairs(actions) do
    local key = keys[name]
    if key then
      local own = mapping(key, vim.api.nvim_buf_get_keymap(buffer, "i"))
      vim.keymap.set("i", key, function()
        if not action[1]() then
          former(key, own)
        end
      end, { buffer = buffer, desc = action[2] })
    end
  end
end

return M
