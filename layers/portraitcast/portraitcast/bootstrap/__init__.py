"""Puts the functions together: each function's own module assembles its workflows from adapters and settings.

The tests' world assembles the same workflows from the same modules, over adapters of its own.
"""
