--- Documents that a server shows: each belongs to that server, and is saved once it is whole.

local M = {}

---@type integer? the client that shows a document just now
local shower

---@type table<integer, table<integer, true>> buffers that may still grow, by client
local growing = {}

--- Whether a file joins this server: one that it shows does, and one that lies in no workspace.
function M.reuse(client, config)
  if client.name ~= config.name or client:is_stopped() then
    return false
  elseif shower then
    return client.id == shower
  end
  return not config.root_dir or client.config.root_dir == config.root_dir
end

--- The handler of window/showDocument.
function M.show(err, params, context)
  local id = context.client_id
  shower = id
  local fine, result = pcall(vim.lsp.handlers["window/showDocument"], err, params, context)
  shower = nil
  if not fine then
    error(result, 0)
  end
  local buffer = not params.external and vim.uri_to_bufnr(params.uri)
  if buffer and vim.api.nvim_buf_is_loaded(buffer) then
    vim.lsp.buf_attach_client(buffer, id) -- `filetypes` may leave it out
    growing[id] = growing[id] or {}
    growing[id][buffer] = true
  end
  return result
end

--- A server's tools have ended: what it has shown holds what it wrote, and so does the file.
---@param id integer the client
function M.settle(id)
  for buffer in pairs(growing[id] or {}) do
    if vim.api.nvim_buf_is_loaded(buffer) then
      local command = vim.bo[buffer].modified and "silent update" or "silent checktime " .. buffer
      vim.api.nvim_buf_call(buffer, function()
        pcall(vim.cmd, command)
      end)
    end
  end
  growing[id] = nil
end

return M
