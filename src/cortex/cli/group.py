"""Groups of commands whose names may be cut short."""

import click


class PrefixGroup(click.Group):
    """Understands a command by any beginning of its name that no other command shares."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Complete the name of the command, where it is not ambiguous."""
        if self.get_command(ctx, args[0]) is None:
            matches = [name for name in self.list_commands(ctx) if name.startswith(args[0])]
            if len(matches) > 1:
                ctx.fail(f"`{args[0]}` may be {' or '.join(f'`{name}`' for name in matches)}")
            args = [*matches, *args[1:]] if matches else args
        return super().resolve_command(ctx, args)
