"""Checks of the whole config before anything heavy loads: every problem at once, each with its key and the way out.

These modules check the values that no owning module can check cheaply; `reward`, `model` and the benchmark's rules
check their own. Nothing here imports torch.
"""
