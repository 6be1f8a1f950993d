--- Suggestions as text: what of them is still to be inserted, and the insertion.

local M = {}

---@class magicoder.Item
---@field text string
---@field row integer where it begins, from 0
---@field col integer in bytes, from 0
---@field end_row integer what it replaces ends here
---@field end_col integer

--- What is left of an item at the cursor, or nil: the user has typed something else.
---@param buffer integer
---@param item magicoder.Item
---@return string?
function M.rest(buffer, item)
  if vim.api.nvim_get_current_buf() ~= buffer then
    return nil
  end
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local fine, typed =
    pcall(vim.api.nvim_buf_get_text, buffer, item.row, item.col, row - 1, col, {})
  if not fine then
    return nil -- the cursor stands before it
  end
  local before = table.concat(typed, "\n")
  if not vim.startswith(item.text, before) or #item.text == #before then
    return nil
  end
  return item.text:sub(#before + 1)
end

--- The first word or line of a text, or all of it.
---@param text string
---@param part "all"|"word"|"line"
---@return string
function M.head(text, part)
  if part == "word" then
    return vim.fn.matchstr(text, [[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\)\?]])
  elseif part == "line" then
    return assert(text:match("^\n?[^\n]*"))
  end
  return text
end

--- Insert a part of what is left of an item at the cursor; the rest stays offered.
---@param buffer integer
---@param item magicoder.Item
---@param part "all"|"word"|"line"
---@return boolean whether there was something to insert
function M.insert(buffer, item, part)
  local rest = M.rest(buffer, item)
  if not rest then
    return false
  end
  local head = M.head(rest, part)
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  row = row - 1
  local end_row, end_col = row, col
  local replaces = item.end_row > row or (item.end_row == row and item.end_col > col)
  if #head == #rest and replaces then
    end_row, end_col = item.end_row, item.end_col
  end
  vim.bo[buffer].undolevels = vim.bo[buffer].undolevels -- one undo takes it away again
  local lines = vim.split(head, "\n", { plain = true })
  vim.api.nvim_buf_set_text(buffer, row, col, end_row, end_col, lines)
  local last = #lines[#lines]
  vim.api.nvim_win_set_cursor(0, { row + #lines, #lines == 1 and col + last or last })
  return true
end

--- The byte column of a position that the server gave.
---@param buffer integer
---@param position lsp.Position
---@param encoding string
---@return integer
function M.column(buffer, position, encoding)
  local line = vim.api.nvim_buf_get_lines(buffer, position.line, position.line + 1, false)[1] or ""
  if encoding == "utf-8" then
    return math.min(position.character, #line)
  end
  local fine, column =
    pcall(vim.str_byteindex, line, position.character, encoding == "utf-16")
  return fine and column or #line
end

--- The position of a byte column, as the server counts.
---@param buffer integer
---@param row integer from 0
---@param column integer in bytes
---@param encoding string
---@return lsp.Position
function M.position(buffer, row, column, encoding)
  local line = vim.api.nvim_buf_get_lines(buffer, row, row + 1, false)[1] or ""
  column = math.min(column, #line)
  if encoding ~= "utf-8" then
    local utf32, utf16 = vim.str_utfindex(line, column)
    column = encoding == "utf-16" and utf16 or utf32
  end
  return { line = row, character = column }
end

return M
