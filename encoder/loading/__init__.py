"""Pictures and texture stacks as they come: files of all kinds to float values, channel groups and metadata."""
