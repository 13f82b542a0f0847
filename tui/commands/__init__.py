"""One module a command of ``wiretalk``; `tui.cli.COMMANDS` names them."""
