"""The commands igs-encode, igs-decode, igs-info and igs-validate: one file each, documented in docs/cli.md."""
