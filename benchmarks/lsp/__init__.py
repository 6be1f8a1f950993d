"""The language server as an editor meets it: a real `magicoder lsp` process and a real server.

`speed` (from keystroke to answer), `typing` (a typing session, replayed), `quality` (HumanEval's
infilling) and `holes` (holes in recent packages in six languages) are commands; `editor`, `proxy`
and `harness` are what they share.
"""
