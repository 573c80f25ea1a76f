"""What the command lines of all scripts share: options, and what they ask for."""
