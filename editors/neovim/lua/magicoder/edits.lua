--- Edits of the server. Those that want to be confirmed are shown first, and never applied silently.

local M = {}

--- The annotations that want to be confirmed: what each says.
local function labels(edit)
  local annotations, found = edit.changeAnnotations or {}, {}
  local function add(change)
    local annotation = change.annotationId and annotations[change.annotationId]
    if annotation and annotation.needsConfirmation then
      local about = annotation.description
      found[about and annotation.label .. ": " .. about or annotation.label] = true
    end
  end
  local function add_all(changes)
    for _, change in ipairs(changes) do
      add(change)
      add_all(change.edits or {})
    end
  end
  add_all(edit.documentChanges or {})
  for _, changes in pairs(edit.changes or {}) do
    add_all(changes)
  end
  return vim.tbl_keys(found)
end

--- What an edit would change, as a diff.
local function preview(edit, encoding)
  local by_uri = {}
  for _, change in ipairs(edit.documentChanges or {}) do
    if change.textDocument then
      by_uri[change.textDocument.uri] = change.edits
    end
  end
  for uri, changes in pairs(edit.changes or {}) do
    by_uri[uri] = changes
  end
  local lines = {}
  for uri, changes in pairs(by_uri) do
    local buffer = vim.uri_to_bufnr(uri)
    vim.fn.bufload(buffer)
    local before = vim.api.nvim_buf_get_lines(buffer, 0, -1, false)
    local scratch = vim.api.nvim_create_buf(false, true)
    vim.api.nvim_buf_set_lines(scratch, 0, -1, false, before)
    local bare = vim.tbl_map(function(change)
      return { range = change.range, newText = change.newText }
    end, changes)
    vim.lsp.util.apply_text_edits(bare, scratch, encoding)
    local after = vim.api.nvim_buf_get_lines(scratch, 0, -1, false)
    vim.api.nvim_buf_delete(scratch, { force = true })
    local diff = vim.diff(table.concat(before, "\n") .. "\n", table.concat(after, "\n") .. "\n")
    lines[#lines + 1] = vim.fn.fnamemodify(vim.uri_to_fname(uri), ":~:.")
    vim.list_extend(lines, vim.split(vim.trim(diff), "\n"))
  end
  return lines
end

--- Show a diff, and ask.
---@return boolean
local function confirmed(question, lines)
  local buffer = vim.api.nvim_create_buf(false, true)
  vim.api.nvim_buf_set_lines(buffer, 0, -1, false, lines)
  vim.bo[buffer].filetype = "diff"
  local height = math.max(1, math.min(#lines, vim.o.lines - 8))
  local window = vim.api.nvim_open_win(buffer, false, {
    relative = "editor",
    style = "minimal",
    border = "rounded",
    row = 1,
    col = 2,
    width = math.max(20, math.min(100, vim.o.columns - 6)),
    height = height,
  })
  vim.cmd.redraw()
  local choice = vim.fn.confirm(question, "&Yes\n&No", 2, "Question")
  pcall(vim.api.nvim_win_close, window, true)
  pcall(vim.api.nvim_buf_delete, buffer, { force = true })
  return choice == 1
end

--- The edit without its annotations.
local function plain(edit)
  local function strip(changes)
    for _, change in ipairs(changes) do
      change.annotationId = nil
      strip(change.edits or {})
    end
  end
  strip(edit.documentChanges or {})
  for _, changes in pairs(edit.changes or {}) do
    strip(changes)
  end
  edit.changeAnnotations = nil
end

--- Neovim before 0.12 leaves an empty line below whole lines that are put at the end of a buffer.
local function fit_end(edit)
  for _, change in ipairs(edit.documentChanges or {}) do
    local buffer = change.textDocument and vim.uri_to_bufnr(change.textDocument.uri)
    for _, part in ipairs(buffer and vim.api.nvim_buf_is_loaded(buffer) and change.edits or {}) do
      if part.range.start.line >= vim.api.nvim_buf_line_count(buffer) then
        part.newText = part.newText:gsub("\r?\n$", "")
      end
    end
  end
end

--- The handler of workspace/applyEdit.
function M.apply(_, params, context)
  local client = assert(vim.lsp.get_client_by_id(context.client_id))
  local edit = vim.deepcopy(params.edit)
  local asks = labels(edit)
  if #asks > 0 then
    local question = table.concat(asks, "\n") .. "\nApply?"
    if not confirmed(question, preview(edit, client.offset_encoding)) then
      return { applied = false }
    end
    plain(edit) -- asked already: Neovim 0.12 would ask again
  end
  if vim.fn.has("nvim-0.12") == 0 then
    fit_end(edit)
  end
  local fine, reason = pcall(vim.lsp.util.apply_workspace_edit, edit, client.offset_encoding)
  return { applied = fine, failureReason = not fine and tostring(reason) or nil }
end

return M
