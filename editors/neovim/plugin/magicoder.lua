if vim.g.loaded_magicoder then
  return
end
vim.g.loaded_magicoder = true

vim.api.nvim_set_hl(0, "MagicoderGhost", { default = true, link = "Comment" })
vim.api.nvim_create_user_command("Magicoder", function(call)
  require("magicoder.commands").run(call)
end, {
  nargs = "+",
  range = true,
  complete = function(lead, line)
    return require("magicoder.commands").complete(lead, line)
  end,
  desc = "Explain, solve, fix, document, test or refactor code",
})
