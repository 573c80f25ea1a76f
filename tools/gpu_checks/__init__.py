"""What nobody could check without a GPU: values against the CPU's, memory, times."""
