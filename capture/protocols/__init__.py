"""From one conversation's octets to its lines: one module a protocol, and a registry that picks one."""
